/** @fastify/static, alone and behind @fastify/compress: downloads that are in flight at shutdown. */
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import http from 'node:http'
import { join } from 'node:path'
import zlib from 'node:zlib'
import fastifyCompress from '@fastify/compress'
import fastifyStatic from '@fastify/static'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { sleep } from '../../lib/util/time'
import type { ShutdownOptions } from '../../types/index'
import { eventually, portOf } from '../helpers/client'
import { shortDirectory } from '../helpers/children'
import { serve, type Served } from '../helpers/serve'

const size = 12_000_000
const content = randomBytes(size / 2).toString('hex')

interface Download {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: Buffer
  readonly whole: boolean
}

interface DownloadOptions {
  readonly method?: string
  readonly headers?: http.OutgoingHttpHeaders
  /** How long reading takes, in milliseconds, if the answer is the whole file. */
  readonly ms: number
}

/** Reads an answer slowly and evenly. */
function download (app: FastifyInstance, path: string, { method = 'GET', headers = {}, ms }: DownloadOptions): Promise<Download> {
  return new Promise((resolve, reject) => {
    const request = http.request({ port: portOf(app), host: '127.0.0.1', path, method, headers, agent: false }, async res => {
      const chunks: Buffer[] = []
      const began = performance.now()
      let read = 0
      try {
        for await (const chunk of res as AsyncIterable<Buffer>) {
          chunks.push(chunk)
          read += chunk.length
          const ahead = read / size * ms - (performance.now() - began)
          if (ahead > 0) await sleep(ahead)
        }
      } catch {
        // The answer is truncated: `complete` is false.
      }
      resolve({ status: res.statusCode!, headers: res.headers, body: Buffer.concat(chunks), whole: res.complete })
    })
    request.on('error', reject)
    request.end()
  })
}

async function files (t: Test, options: ShutdownOptions, compress = false): Promise<Served> {
  const root = shortDirectory(t)
  writeFileSync(join(root, 'archive.txt'), content)
  return await serve(t, {
    options,
    routes: async app => {
      if (compress) await app.register(fastifyCompress, { encodings: ['gzip'] })
      await app.register(fastifyStatic, { root })
      app.get('/send', (_request, reply) => reply.sendFile('archive.txt'))
      app.get('/download', (_request, reply) => reply.download('archive.txt'))
    }
  })
}

const isAnswering = async ({ app }: Served): Promise<void> => {
  const active = (): number => app.shutdownState.activeRequests + app.shutdownState.activeStreams
  await eventually(() => active() === 1, () => app.shutdownState)
}

for (const path of ['/archive.txt', '/send', '/download']) {
  t.test(`${path}: a slow download is whole, although it takes longer than timeouts.streams`, async t => {
    const served = await files(t, { timeouts: { streams: 50, requests: 10_000 } })
    const downloaded = download(served.app, path, { ms: 800 })
    await isAnswering(served)
    const [{ body, whole }, report] = await Promise.all([downloaded, served.app.shutdown.start()])
    t.ok(whole)
    t.ok(body.equals(Buffer.from(content)))
    t.match(report, { outcome: 'clean', exitCode: 0, requests: { completed: 1, cut: [] } })
  })
}

t.test('a range of a file is whole, too', async t => {
  const served = await files(t, { timeouts: { streams: 50, requests: 10_000 } })
  const downloaded = download(served.app, '/archive.txt', { ms: 800, headers: { range: 'bytes=1000000-10999999' } })
  await isAnswering(served)
  const [{ status, body, whole }, report] = await Promise.all([downloaded, served.app.shutdown.start()])
  t.equal(status, 206)
  t.ok(whole)
  t.equal(body.length, 10_000_000)
  t.equal(report.outcome, 'clean')
})

t.test('a HEAD, and a file that the client has, end at once', async t => {
  const { app } = await files(t, {})
  const { headers } = await download(app, '/archive.txt', { method: 'HEAD', ms: 0 })
  t.equal(headers['content-length'], String(size))
  t.match(await download(app, '/archive.txt', { headers: { 'if-none-match': headers.etag }, ms: 0 }), { status: 304 })
  t.match(await app.shutdown.start(), { outcome: 'clean', requests: { cut: [] } })
})

t.test('a download that is compressed has no length, and all the time that is left', async t => {
  // Scaled: 475 ms for streams, 2 375 ms for everything but the resources.
  const served = await files(t, { gracePeriod: 3_000 }, true)
  const downloaded = download(served.app, '/archive.txt', { ms: 2_200, headers: { 'accept-encoding': 'gzip' } })
  await eventually(() => served.app.shutdownState.activeStreams === 1, () => served.app.shutdownState)
  const [{ headers, body, whole }, report] = await Promise.all([downloaded, served.app.shutdown.start()])
  t.equal(headers['content-length'], undefined)
  t.ok(whole)
  t.equal(zlib.gunzipSync(body).toString(), content)
  t.equal(report.outcome, 'clean')
})

t.test('a download that is too slow is cut at timeouts.requests, and the shutdown is not clean', async t => {
  const served = await files(t, { timeouts: { requests: 300 } })
  const downloaded = download(served.app, '/archive.txt', { ms: 6_000 })
  await isAnswering(served)
  const [{ whole }, report] = await Promise.all([downloaded, served.app.shutdown.start()])
  t.notOk(whole)
  t.match(report, { outcome: 'forced', requests: { cut: [{ method: 'GET' }] } })
  t.ok(report.durationMs >= 299 && report.durationMs < 5_000, `took ${report.durationMs} ms`)
})
