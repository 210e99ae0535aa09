/** The shutdown of an Express 5 app, on real sockets. */
import { writeFileSync } from 'node:fs'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { AttachOptions } from '../../lib/attach'
import { reached, serveAttached, type AttachedServer } from '../helpers/attached'
import { connect, eventually, fetchOnce, get, post, type Client } from '../helpers/client'
import { rejected } from '../helpers/serve'
import { turn } from '../../lib/util/time'

/** The part of Express that is used here. It brings no types. */
interface Router {
  use(...handlers: unknown[]): void
  get(path: string, handler: (req: IncomingMessage & { readonly params: Record<string, string> }, res: ServerResponse & { json(body: object): void }) => unknown): void
  post(path: string, handler: (req: { readonly body: object }, res: { json(body: object): void }) => unknown): void
}
type Express = (() => Router & RequestListener) & { json(): unknown, static(path: string): unknown, Router(): Router }
const express = require('express') as Express

const large = 'x'.repeat(5_000_000)

/** An app with a router, async handlers, static files, a parsed body and an answer that streams. */
async function serveExpress (t: Test, options: AttachOptions = {}): Promise<AttachedServer & { readonly gate: { open(): void } }> {
  const app = express()
  let open = (): void => {}
  const opened = new Promise<void>(resolve => { open = resolve })
  t.teardown(open)
  const router = express.Router()
  router.get('/orders/:id', async (req, res) => {
    await opened
    res.json({ order: req.params['id'] })
  })
  router.get('/broken', async () => {
    await opened
    throw new Error('broken')
  })
  app.use(express.json())
  app.use('/shop', router)
  app.use('/files', express.static(t.testdir({ 'large.txt': '' })))
  writeFileSync(join(t.testdirName, 'large.txt'), large)
  app.post('/echo', async (req, res) => {
    await opened
    res.json(req.body)
  })
  app.get('/stream', async (_req, res) => {
    for (let i = 0; i < 5; i++) {
      res.write(`${i} `)
      await pause(50)
    }
    res.end('end')
  })
  // Express logs the errors of handlers, and this environment turns it off.
  ;(app as unknown as { set(name: string, value: string): void }).set('env', 'test')
  const attached = await serveAttached(t, { handler: app, options: { track: 'detail', ...options } })
  return { ...attached, gate: { open } }
}

async function send (attached: AttachedServer, bytes: string): Promise<Client> {
  const client = await connect(attached.port)
  const { received } = attached.shutdownState.stats
  client.send(bytes)
  await eventually(() => attached.shutdownState.stats.received > received, () => attached.shutdownState)
  return client
}

t.test('async handlers of a router end, and new requests get the 503', async t => {
  const attached = await serveExpress(t)
  const order = await send(attached, get('/shop/orders/7'))
  const broken = await send(attached, get('/shop/broken'))
  const echo = await send(attached, post('/echo', '{"a":1}', { 'Content-Type': 'application/json' }))
  await eventually(() => attached.shutdownState.requests().every(({ route }) => route !== ''), () => attached.shutdownState.requests())
  t.match(attached.shutdownState.requests(), [{ method: 'GET', route: '*/orders/:id' }, { method: 'GET', route: '*/broken' }, { method: 'POST', route: '/echo' }])
  attached.server.close()
  await reached(attached, 'draining')
  t.match(await fetchOnce(attached.port, get('/shop/orders/8')), rejected)
  attached.gate.open()
  t.match(await order.answer(), { status: 200, headers: { connection: 'close' }, body: '{"order":"7"}' })
  t.match(await broken.answer(), { status: 500, headers: { connection: 'close' } })
  t.match(await echo.answer(), { status: 200, body: '{"a":1}' })
  t.match(await attached.report, { outcome: 'clean', requests: { completed: 3, rejected: 1, aborted: 0, cut: [] } })
})

t.test('a large static file and a stream arrive whole', async t => {
  const attached = await serveExpress(t)
  const file = await connect(attached.port)
  file.socket.pause()
  file.send(get('/files/large.txt'))
  const stream = await send(attached, get('/stream'))
  await stream.until('0')
  await eventually(() => attached.shutdownState.stats.received === 2, () => attached.shutdownState)
  const over = attached.shutdown.start()
  await reached(attached, 'draining')
  file.socket.resume()
  const { status, body } = await file.answer()
  t.strictSame([status, body.length], [200, large.length])
  t.match(await stream.answer(), { status: 200, body: '0 1 2 3 4 end' })
  t.match(await over, { outcome: 'clean', requests: { completed: 2 }, streams: { ended: 1, cut: 0 } })
})

t.test('a request that exceeds its time gets the 503, and its handler may still answer', async t => {
  const attached = await serveExpress(t, { timeouts: { requests: 200 } })
  const order = await send(attached, get('/shop/orders/7'))
  await eventually(() => attached.shutdownState.requests()[0]?.route !== '', () => attached.shutdownState.requests())
  const report = await attached.shutdown.start()
  t.match(await order.answer(), rejected)
  t.match(report, { outcome: 'forced', exitCode: 1, errors: [], requests: { cut: [{ method: 'GET', route: '*/orders/:id' }] } })
  attached.gate.open()
  await turn()
  t.match(attached.shutdownState.stats, { received: 1, cut: 1, completed: 0 })
})
