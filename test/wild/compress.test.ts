/** @fastify/compress: compressed answers in flight arrive whole, and the 503 passes through its onSend hook. */
import { once } from 'node:events'
import http from 'node:http'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { createBrotliDecompress, createGunzip } from 'node:zlib'
import compress from '@fastify/compress'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { portOf } from '../helpers/client'
import { entered, serve, serveHeld } from '../helpers/serve'

interface Unpacked {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  /** The decompressed body. It rejects if the body is incomplete. */
  readonly body: Promise<string>
}

async function ask (app: FastifyInstance, path: string, encoding: string): Promise<Unpacked> {
  const request = http.get({ port: portOf(app), host: '127.0.0.1', path, agent: false, headers: { 'accept-encoding': encoding } })
  const [response] = await once(request, 'response') as [http.IncomingMessage]
  const used = response.headers['content-encoding']
  const unpacked = used === 'gzip' ? response.pipe(createGunzip()) : used === 'br' ? response.pipe(createBrotliDecompress()) : response
  // `pipe` does not pass the error on.
  response.once('error', error => { unpacked.destroy(error) })
  return { status: response.statusCode!, headers: response.headers, body: text(unpacked) }
}

/** Data of some size, in parts, one per few milliseconds. The first part arrives at once. */
async function * parts (count: number): AsyncGenerator<string> {
  for (let index = 0; index < count; index++) {
    yield `${index},${'x'.repeat(20_000)}\n`
    await new Promise(resolve => { setTimeout(resolve, 5) })
  }
}

const whole = async (count: number): Promise<string> => await text(Readable.from(parts(count)))

for (const encoding of ['gzip', 'br']) {
  t.test(`a stream, a text and an ended stream that ${encoding} compresses arrive whole`, async t => {
    const { app, report } = await serve(t, {
      routes: async app => {
        await app.register(compress, { threshold: 0 })
        app.get('/stream', async (_request, reply) => reply.type('text/plain').send(Readable.from(parts(60))))
        app.get('/text', async (_request, reply) => {
          await once(app.shutdownState.signal, 'abort')
          return reply.type('text/plain').send('y'.repeat(500_000))
        })
        app.get('/ending', async (_request, reply) => reply.type('text/plain').send(app.shutdown.stream(Readable.from(parts(100_000)), { end: 'the end' })))
      }
    })
    const late = ask(app, '/text', encoding)
    const [stream, ending] = await Promise.all([ask(app, '/stream', encoding), ask(app, '/ending', encoding)])
    t.equal(stream.headers['content-encoding'], encoding)
    const closing = app.shutdown.start()
    t.equal(await stream.body, await whole(60))
    t.equal(await (await late).body, 'y'.repeat(500_000))
    t.match(await ending.body, /the end$/)
    await closing
    t.match(await report, { outcome: 'clean', exitCode: 0, requests: { aborted: 0, cut: [] }, streams: { cut: 0 } })
  })
}

for (const threshold of [0, 1_024]) {
  t.test(`the 503 can be read with a threshold of ${threshold} bytes`, async t => {
    const { app, holder, release, report } = await serveHeld(t, { before: async app => { await app.register(compress, { threshold }) } })
    void app.shutdown.start()
    await entered(app, 'draining')
    const { status, headers, body } = await ask(app, '/hold', 'gzip')
    t.match({ status, headers }, { status: 503, headers: { 'retry-after': '10', connection: 'close', 'content-type': /json/ } })
    t.equal(headers['content-encoding'], threshold === 0 ? 'gzip' : undefined)
    t.match(JSON.parse(await body), { statusCode: 503, code: 'FST_ERR_SHUTDOWN_DRAINING' })
    release()
    t.match(await holder.answer(), { status: 200 })
    t.match(await report, { outcome: 'clean', exitCode: 0, requests: { completed: 1, rejected: 1 } })
  })
}

t.test('a compressed stream that does not end is cut at its timeout', async t => {
  const { app, report } = await serve(t, {
    options: { timeouts: { streams: 200 } },
    routes: async app => {
      await app.register(compress, { threshold: 0 })
      app.get('/', async (_request, reply) => reply.type('text/plain').send(Readable.from(parts(100_000))))
    }
  })
  const stream = await ask(app, '/', 'gzip')
  const closing = app.shutdown.start()
  await t.rejects(stream.body)
  await closing
  t.match(await report, { outcome: 'forced', streams: { cut: 1 } })
})
