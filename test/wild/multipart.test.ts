/** @fastify/multipart: an upload that is on its way when draining begins arrives whole, and a new one can read its 503. */
import { createWriteStream, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import multipart from '@fastify/multipart'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { connect, eventually, get, type Client } from '../helpers/client'
import { entered, rejected, serve } from '../helpers/serve'

const boundary = 'boundary'
const file = 'x'.repeat(200_000)
const body = [
  `--${boundary}\r\nContent-Disposition: form-data; name="title"\r\n\r\na title\r\n`,
  `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="file.txt"\r\nContent-Type: text/plain\r\n\r\n${file}\r\n`,
  `--${boundary}--\r\n`
].join('')
const head = (path: string): string => get(path, { 'Content-Type': `multipart/form-data; boundary=${boundary}`, 'Content-Length': String(body.length) }, 'POST')

const ways: Record<string, (app: FastifyInstance, folder: string) => Promise<void>> = {
  'a file that is written to the disk': async (app, folder) => {
    await app.register(multipart)
    app.post('/', async request => {
      const part = await request.file()
      const path = join(folder, 'upload')
      await pipeline(part!.file, createWriteStream(path))
      return { bytes: readFileSync(path).length }
    })
  },
  'the parts of a form': async app => {
    await app.register(multipart)
    app.post('/', async request => {
      let bytes = 0
      for await (const part of request.parts()) if (part.type === 'file') bytes = (await part.toBuffer()).length
      return { bytes }
    })
  },
  'fields that are attached to the body': async app => {
    await app.register(multipart, { attachFieldsToBody: 'keyValues' })
    app.post<{ Body: { file: Buffer | string, title: string } }>('/', async request => ({ bytes: request.body.file.length }))
  }
}

for (const [name, routes] of Object.entries(ways)) {
  t.test(`${name}: the upload in flight is answered, a later one is rejected, and an aborted upload does not prolong the drain`, async t => {
    const folder = t.testdir()
    const { app, report } = await serve(t, { routes: async app => { await routes(app, folder) } })
    const begin = async (bytes: string): Promise<Client> => {
      const client = await connect(app)
      const { received } = app.shutdownState.stats
      client.send(bytes)
      await eventually(() => app.shutdownState.stats.received === received + 1, () => app.shutdownState)
      return client
    }
    const half = head('/') + body.slice(0, 100_000)
    const [client, leaver] = [await begin(half), await begin(half)]
    const closing = app.shutdown.start()
    await entered(app, 'draining')
    leaver.socket.resetAndDestroy()
    const late = await begin(head('/') + body)
    t.match(await late.answer(), rejected)
    t.equal(await late.over, 'end')
    client.send(body.slice(100_000))
    t.match(await client.answer(), { status: 200, headers: { connection: 'close' }, body: `{"bytes":${file.length}}` })
    t.equal(await client.over, 'end')
    const { durationMs } = await closing
    t.ok(durationMs < 5_000, `took ${durationMs} ms`)
    t.match(await report, { outcome: 'clean', exitCode: 0, requests: { completed: 1, rejected: 1, aborted: 1, cut: [] } })
  })
}

t.test('an upload that stops in the middle is cut at its timeout, with the 503', async t => {
  const { app, report } = await serve(t, {
    options: { timeouts: { requests: 200 } },
    routes: async app => { await ways['the parts of a form']!(app, '') }
  })
  const client = await connect(app)
  client.send(head('/') + body.slice(0, 100_000))
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const closing = app.shutdown.start()
  t.match(await client.answer(), rejected)
  const { durationMs } = await closing
  t.ok(durationMs < 5_000, `took ${durationMs} ms`)
  t.match(await report, { outcome: 'forced', requests: { cut: [{ method: 'POST', route: '/' }] } })
})
