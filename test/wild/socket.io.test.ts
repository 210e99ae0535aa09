/**
 * socket.io: engine.io answers its requests itself. It removes Fastify's listeners from the server, and calls copies of
 * them for all other requests. A client with the transport `polling` always has a request open.
 */
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { Server } from 'socket.io'
import { io as connectClient, type Socket } from 'socket.io-client'
import t, { type Test } from 'tap'
import { createDeferred } from '../../lib/util/deferred'
import { report, run, translate } from '../helpers/children'
import { connect, eventually, get, portOf } from '../helpers/client'
import { build, entered, rejected, type Served } from '../helpers/serve'
import type { ShutdownOptions } from '../../types/index'

type When = 'before the plugin' | 'after the plugin' | 'after listen'
type Transport = 'polling' | 'websocket'

interface Started extends Served {
  readonly io: Server
  readonly gate: { resolve(): void }
}

/** An app with socket.io. It acknowledges the event `call` after the given time, and `wait` when the gate opens. */
async function start (t: Test, when: When, options: ShutdownOptions = {}): Promise<Started> {
  const gate = createDeferred<void>()
  let io: Server | undefined
  const attach = (app: FastifyInstance, now: When): void => {
    if (now !== when) return
    io = new Server(app.server, { transports: ['polling', 'websocket'] })
    // Its timer would keep this process alive for 30 seconds.
    io.engine.on('connection', ({ transport }: { transport: { closeTimeout: number } }) => { transport.closeTimeout = 100 })
    io.on('connection', socket => {
      socket.on('call', (ms: number, done: (answer: string) => void) => { setTimeout(() => done('answer'), ms) })
      socket.on('wait', (done: (answer: string) => void) => { void gate.promise.then(() => done('answer')) })
    })
  }
  const served = await build(t, {
    options,
    before: app => attach(app, 'before the plugin'),
    routes (app) {
      app.get('/own', async () => 'own')
      attach(app, 'after the plugin')
    }
  })
  await served.app.listen({ port: 0, host: '127.0.0.1' })
  attach(served.app, 'after listen')
  return { ...served, io: io!, gate }
}

/** A connected client, and why it was disconnected. */
async function open (t: Test, app: FastifyInstance | number, transport: Transport): Promise<{ readonly client: Socket, readonly disconnected: Promise<string> }> {
  const port = typeof app === 'number' ? app : portOf(app)
  const client = connectClient(`http://127.0.0.1:${port}`, { transports: [transport], reconnection: false, forceNew: true })
  t.teardown(() => { client.disconnect() })
  const disconnected = new Promise<string>(resolve => { client.once('disconnect', resolve) })
  await new Promise<void>((resolve, reject) => { client.once('connect', resolve).once('connect_error', reject) })
  return { client, disconnected }
}

for (const when of ['before the plugin', 'after the plugin', 'after listen'] as const) {
  t.test(`attached ${when}`, async t => {
    await t.test('polling: the open request is in flight, and ends at once when the app closes it', async t => {
      const { app, io, report } = await start(t, when)
      const { client, disconnected } = await open(t, app, 'polling')
      t.equal(await client.emitWithAck('call', 1), 'answer')
      await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
      app.shutdown.on('draining', () => {
        for (const { conn } of io.sockets.sockets.values()) if (conn.transport.name === 'polling') conn.close()
      })
      await app.shutdown.start()
      t.equal(await disconnected, 'transport close', 'after this reason, a client connects again by itself')
      t.match(await report, { outcome: 'clean', exitCode: 0, requests: { cut: [], aborted: 0 }, sockets: { destroyed: 0 } })
      t.ok((await report).durationMs < 2_000, `${(await report).durationMs} ms`)
    })

    await t.test('polling: without that, it is cut at the end of its time, and named', async t => {
      const { app, report } = await start(t, when, { timeouts: { requests: 300 } })
      const { disconnected } = await open(t, app, 'polling')
      await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
      await app.shutdown.start()
      t.match(await disconnected, 'transport')
      t.match(await report, { outcome: 'forced', requests: { aborted: 0, cut: [{ method: 'GET' }] } })
    })

    await t.test('polling: an answer that comes while draining arrives, and the next poll is rejected', async t => {
      const { app, gate, report } = await start(t, when, { newConnections: 'answer' })
      const held = createDeferred<void>()
      app.shutdown.waitUntil(held.promise)
      const { client, disconnected } = await open(t, app, 'polling')
      const answer = client.emitWithAck('wait')
      await eventually(() => app.shutdownState.stats.completed >= 4 && app.shutdownState.activeRequests === 1, () => app.shutdownState.stats)
      void app.shutdown.start()
      await entered(app, 'draining')
      gate.resolve()
      t.equal(await answer, 'answer')
      t.match(await disconnected, 'transport')
      t.same(app.shutdownState.requests(), [], 'it keeps nothing open')
      held.resolve()
      t.match(await report, { outcome: 'clean', requests: { cut: [], aborted: 0 } })
      t.ok((await report).requests.rejected >= 1)
    })

    await t.test('websocket: open calls get their answers, and then the client is disconnected', async t => {
      const { app, report } = await start(t, when)
      const clients = await Promise.all(Array.from({ length: 10 }, () => open(t, app, 'websocket')))
      const answers = clients.map(({ client }, index) => client.emitWithAck('call', 20 * index) as Promise<string>)
      await Promise.all(answers.slice(0, 2))
      t.match(app.shutdownState, { activeWebSockets: 10, activeRequests: 0 })
      await app.shutdown.start()
      t.same(await Promise.all(answers), answers.map(() => 'answer'))
      for (const { disconnected } of clients) t.equal(await disconnected, 'transport close')
      t.match(await report, { outcome: 'clean', exitCode: 0, webSockets: { closed: 10, terminated: 0 } })
    })

    await t.test('new requests and upgrades of both get our 503 while draining', async t => {
      const { app, io, report } = await start(t, when, { newConnections: 'answer', retryAfter: 7 })
      const held = createDeferred<void>()
      const { client } = await open(t, app, 'websocket')
      const { id } = (io.sockets.sockets.get(client.id!)!.client as unknown as { conn: { id: string } }).conn
      app.shutdown.waitUntil(held.promise)
      void app.shutdown.start()
      await entered(app, 'draining')
      for (const path of ['/socket.io/?EIO=4&transport=polling', `/socket.io/?EIO=4&transport=polling&sid=${id}`, '/socket.io/socket.io.js', '/own']) {
        const late = await connect(app)
        late.send(get(path))
        t.match(await late.answer(), { ...rejected, headers: { 'retry-after': '7', connection: 'close' } }, path)
        t.equal(await late.over, 'end')
      }
      for (const path of ['/socket.io/?EIO=4&transport=websocket', '/own']) {
        const late = await connect(app)
        late.send(get(path, { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==' }))
        t.match(await late.answer(), { ...rejected, headers: { 'retry-after': '7', connection: 'close' } }, path)
        t.equal(await late.over, 'end')
      }
      held.resolve()
      t.match(await report, { outcome: 'clean', requests: { rejected: 6 }, webSockets: { closed: 1, terminated: 0 } })
    })
  })
}

t.test('a service with socket.io and a listener of its own ends with exit code 0 after SIGTERM', async t => {
  const directory = translate(t.testdir(), ['lib', 'test/wild/fixtures/foreign.ts'])
  const service = run(t, { args: [join(directory, 'test/wild/fixtures/foreign.js')], cwd: directory })
  const port = Number(await service.said('port'))
  const slow = await connect(port)
  slow.send(get('/raw/slow'))
  await service.said('raw')
  const polling = await open(t, port, 'polling')
  const websocket = await open(t, port, 'websocket')
  const answer = websocket.client.emitWithAck('call', 200) as Promise<string>
  service.kill('SIGTERM')
  t.match(await slow.answer(), { status: 200, headers: { connection: 'close' }, body: 'whole' })
  t.equal(await slow.over, 'end')
  t.equal(await answer, 'answer')
  t.match(await websocket.disconnected, 'transport close')
  t.equal(await polling.disconnected, 'transport close')
  t.match(await report(service), { outcome: 'clean', exitCode: 0, requests: { aborted: 0, cut: [] }, sockets: { destroyed: 0 } })
  t.match(await service.ended, { code: 0, signal: null })
})

t.test('quiet clients with the transport websocket are disconnected evenly in lame-duck', async t => {
  const { app, report } = await start(t, 'after the plugin', { delay: 1_000 })
  const clients = await Promise.all(Array.from({ length: 20 }, () => open(t, app, 'websocket')))
  await new Promise(resolve => { setTimeout(resolve, 300) })
  const began = performance.now()
  void app.shutdown.start()
  const times = await Promise.all(clients.map(async ({ disconnected }) => {
    await disconnected
    return performance.now() - began
  }))
  t.ok(times.filter(time => time < 500).length >= 5, times.map(Math.round).join(', '))
  t.ok(times.filter(time => time > 500).length >= 5, times.map(Math.round).join(', '))
  t.match(await report, { outcome: 'clean', webSockets: { closed: 20, terminated: 0 } })
})
