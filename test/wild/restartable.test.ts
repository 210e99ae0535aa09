/** @fastify/restartable: each generation of the app has the plugin, and all of them have one server. */
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { restartable } from '@fastify/restartable'
import fastifyWebsocket from '@fastify/websocket'
import type { FastifyInstance, FastifyServerOptions } from 'fastify'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import gracefulShutdown from '../../lib/index'
import { createDeferred } from '../../lib/util/deferred'
import { sleep } from '../../lib/util/time'
import type { ShutdownOptions, ShutdownReport } from '../../types/index'
import { run, translate } from '../helpers/children'
import { connect, eventually, fetchOnce, get, openSession, portOf } from '../helpers/client'
import { Fastify } from '../helpers/fastify'
import { tls } from '../helpers/transports'

interface Generations {
  /** The current generation. */
  readonly app: FastifyInstance
  readonly server: Server
  readonly port: number
  /** The reports of the generations that have closed. */
  readonly reports: ShutdownReport[]
  /** The names of the databases that have closed. */
  readonly closed: string[]
  /** Answers `/slow`. */
  release(): void
}

interface Setup {
  readonly options?: ShutdownOptions
  readonly fastify?: FastifyServerOptions
  readonly routes?: (app: FastifyInstance, generation: number) => void
}

async function start (t: Test, { options = {}, fastify = {}, routes = () => {} }: Setup = {}): Promise<Generations> {
  const reports: ShutdownReport[] = []
  const closed: string[] = []
  let gate = createDeferred<void>()
  let generations = 0
  const app = await restartable(async (create, opts) => {
    const app = create(opts as FastifyServerOptions) as FastifyInstance
    const generation = ++generations
    await app.register(gracefulShutdown, {
      signals: false,
      delay: 0,
      onReport: report => { reports.push(report) },
      resources: { db: { close () { closed.push(`db ${generation}`) } } },
      ...options
    })
    app.get('/', async () => `generation ${generation}`)
    app.get('/slow', async () => {
      await gate.promise
      return `generation ${generation}`
    })
    routes(app, generation)
    return app as never
  }, fastify as object, Fastify as never) as unknown as FastifyInstance
  t.teardown(async () => {
    gate.resolve()
    await app.close().catch(() => {})
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return {
    app,
    server: app.server,
    port: portOf(app),
    reports,
    closed,
    release () {
      gate.resolve()
      gate = createDeferred()
    }
  }
}

const listeners = (server: Server): Record<string, number> => Object.fromEntries(
  server.eventNames().map(name => [String(name), server.listenerCount(name)] as const).sort()
)

t.test('a restart drains the old generation, and the listener stays', async t => {
  const { app, port, reports, closed, release, server } = await start(t)
  const old = await connect(port)
  old.send(get('/slow'))
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const restarting = app.restart()
  // The new generation serves while the old one drains.
  await eventually(() => app.restarted, () => 'the old generation')
  t.match(await fetchOnce(port, get('/')), { status: 200, body: 'generation 2' })
  t.same(closed, [], 'the database of the old generation is open')
  release()
  t.match(await old.answer(), { status: 200, body: 'generation 1' })
  await restarting
  t.same(closed, ['db 1'])
  t.ok(server.listening)
  t.match(reports, [{ outcome: 'clean', reason: { kind: 'close' }, requests: { completed: 1, rejected: 0, cut: [] }, sockets: { idle: 0, silent: 0, destroyed: 0 } }])
  t.match(await fetchOnce(port, get('/')), { status: 200, body: 'generation 2' })
  t.equal(app.shutdownState.phase, 'running')
})

t.test('a keep-alive connection stays open during restarts, also with an answer in flight', async t => {
  const { app, port, release } = await start(t)
  const [idle, silent, busy] = [await connect(port), await connect(port), await connect(port)]
  idle.send(get('/'))
  t.match(await idle.answer(), { body: 'generation 1' })
  for (let generation = 2; generation <= 4; generation++) {
    busy.send(get('/slow'))
    await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
    const restarting = app.restart()
    await sleep(20)
    idle.send(get('/'))
    t.match(await idle.answer(), { status: 200, body: `generation ${generation}` })
    release()
    t.match(await busy.answer(), { status: 200, body: `generation ${generation - 1}` })
    await restarting
  }
  silent.send(get('/'))
  t.match(await silent.answer(), { status: 200, body: 'generation 4' })
  for (const client of [idle, silent, busy]) client.socket.destroy()
})

t.test('app.close() of the newest generation closes the server, and each kind of connection', async t => {
  const { app, port, reports, closed, release, server } = await start(t)
  const [idle, silent, half, busy] = [await connect(port), await connect(port), await connect(port), await connect(port)]
  idle.send(get('/'))
  await idle.answer()
  await app.restart()
  await app.restart()
  half.send('GET / HTTP/1.1\r\nhost:')
  busy.send(get('/slow'))
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const closing = app.close()
  await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
  const rejected = await fetchOnce(port, get('/'))
  t.match(rejected, { status: 503, headers: { 'retry-after': '10', connection: 'close' } })
  release()
  t.match(await busy.answer(), { status: 200, body: 'generation 3', headers: { connection: 'close' } })
  await closing
  t.notOk(server.listening)
  t.same(closed, ['db 1', 'db 2', 'db 3'])
  t.match(reports.at(-1), { outcome: 'clean', requests: { completed: 1, rejected: 1 } })
  t.ok(reports.at(-1)!.durationMs < 2_000, `took ${reports.at(-1)!.durationMs} ms`)
  await Promise.all([idle.over, silent.over, half.over, busy.over])
})

t.test('fifty restarts add nothing to the server, its connections and the process', async t => {
  const { app, port, server, reports } = await start(t)
  const client = await connect(port)
  const sockets = new Set<NodeJS.EventEmitter>()
  server.on('request', req => { sockets.add(req.socket) })
  const warnings: Error[] = []
  const warn = (warning: Error): void => { warnings.push(warning) }
  process.on('warning', warn)
  t.teardown(() => process.removeListener('warning', warn))
  const measure = async (): Promise<object> => {
    client.send(get('/'))
    await client.answer()
    const [socket] = sockets
    return {
      server: listeners(server),
      socket: socket === undefined ? {} : Object.fromEntries(socket.eventNames().map(name => [String(name), socket.listenerCount(name)])),
      symbols: Object.getOwnPropertySymbols(server).length,
      methods: Object.keys(server).length
    }
  }
  await app.restart()
  server.on('request', req => { sockets.add(req.socket) })
  const before = await measure()
  for (let count = 0; count < 50; count++) {
    const restarting = app.restart()
    client.send(get('/'))
    t.match(await client.answer(), { status: 200 })
    await restarting
  }
  const after = await measure() as { server: Record<string, number> }
  after.server['request']!++ // Restartable has removed the listener of this test.
  t.strictSame(after, before)
  t.same(warnings, [])
  t.equal(reports.length, 51)
  t.ok(reports.every(({ outcome }) => outcome === 'clean'))
  client.socket.destroy()
})

t.test('under traffic, no request is lost in ten restarts', async t => {
  const { app, port } = await start(t, {
    routes: app => {
      app.get('/work', async () => {
        await sleep(3)
        return 'done'
      })
    }
  })
  const over = new AbortController()
  const clients = Array.from({ length: 8 }, async () => {
    const client = await connect(port)
    let answered = 0
    while (!over.signal.aborted) {
      client.send(get('/work'))
      t.equal((await client.answer()).status, 200)
      answered++
    }
    client.socket.destroy()
    return answered
  })
  for (let count = 0; count < 10; count++) await app.restart()
  over.abort()
  const counts = await Promise.all(clients)
  t.ok(counts.every(count => count > 0), String(counts))
})

t.test('an HTTP/2 session stays open during a restart, and gets GOAWAY from the newest generation', async t => {
  const { app, port, release } = await start(t, { fastify: { http2: true } as FastifyServerOptions })
  const client = openSession(port)
  t.teardown(() => client.session.destroy())
  const slow = client.get('/slow')
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const restarting = app.restart()
  await sleep(20)
  t.match(await client.get('/'), { status: 200, body: 'generation 2' })
  release()
  t.match(await slow, { status: 200, body: 'generation 1', error: null })
  await restarting
  t.match(await client.get('/'), { status: 200, body: 'generation 2' })
  const [code] = await Promise.all([client.goaway, app.close()])
  t.equal(code, 0)
})

t.test('WebSockets of the old generation get close code 1001, and those that open during a restart stay open', async t => {
  const { app, port, release, reports } = await start(t, {
    routes (app, generation) {
      void app.register(fastifyWebsocket)
      void app.register(async child => {
        child.get('/ws', { websocket: true }, socket => {
          socket.on('message', message => { socket.send(`generation ${generation}: ${String(message)}`) })
        })
      })
    }
  })
  const open = async (): Promise<{ readonly closed: Promise<number>, echo(): Promise<string> }> => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`)
    const closed = once(socket, 'close').then(([code]) => code as number)
    await once(socket, 'open')
    return {
      closed,
      async echo () {
        socket.send('hello')
        return String((await once(socket, 'message'))[0])
      }
    }
  }
  const old = await open()
  t.equal(await old.echo(), 'generation 1: hello')
  const busy = await connect(port)
  busy.send(get('/slow'))
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const restarting = app.restart()
  t.equal(await old.closed, 1001)
  const young = await open()
  t.equal(await young.echo(), 'generation 2: hello')
  release()
  await busy.answer()
  await restarting
  t.equal(await young.echo(), 'generation 2: hello')
  await app.close()
  t.equal(await young.closed, 1001)
  t.match(reports, [{ webSockets: { closed: 1, terminated: 0 } }, { outcome: 'clean', webSockets: { closed: 1, terminated: 0 } }])
  busy.socket.destroy()
})

t.test('a TLS connection stays open during a restart, and the newest generation closes it', async t => {
  const { app, port, server } = await start(t, { fastify: { https: tls } as FastifyServerOptions })
  const secure = { host: 'localhost', ca: tls.cert }
  const [used, silent] = [await connect(port, secure), await connect(port, secure)]
  const raw = await connect(port) // Never begins its handshake.
  for (let generation = 1; generation <= 3; generation++) {
    used.send(get('/'))
    t.match(await used.answer(), { status: 200, body: `generation ${generation}` })
    if (generation < 3) await app.restart()
  }
  await app.close()
  t.notOk(server.listening)
  await Promise.all([used.over, silent.over, raw.over])
})

t.test('if a new generation does not start, the old one still serves', async t => {
  let fails = false
  const { app, port, reports, server } = await start(t, { routes: () => { if (fails) throw new Error('no') } })
  await app.restart()
  const before = listeners(server)
  fails = true
  await t.rejects(app.restart(), { message: 'no' })
  t.match(await fetchOnce(port, get('/')), { status: 200, body: 'generation 2' })
  t.equal(reports.length, 1)
  t.same(listeners(server), before)
  fails = false
  await app.restart()
  t.match(await fetchOnce(port, get('/')), { status: 200, body: 'generation 4' })
})

t.test('a server whose own close() does nothing keeps its listener and its idle connections', async t => {
  const reports: ShutdownReport[] = []
  const create = async (server?: Server): Promise<FastifyInstance> => {
    const app = Fastify({
      forceCloseConnections: false, // Otherwise Fastify closes the idle connections of this server.
      serverFactory: handler => {
        server ??= createServer()
        server.removeAllListeners('request').on('request', handler)
        return server
      }
    }) as FastifyInstance
    await app.register(gracefulShutdown, { signals: false, delay: 0, onReport: report => { reports.push(report) } })
    app.get('/', async () => 'ok')
    return app
  }
  const first = await create()
  const { server } = first
  await first.listen({ port: 0, host: '127.0.0.1' })
  const close = server.close.bind(server)
  t.teardown(() => {
    close()
    server.closeAllConnections()
  })
  server.close = callback => {
    callback?.()
    return server
  }
  const idle = await connect(first)
  idle.send(get('/'))
  await idle.answer()
  const before = Object.keys(listeners(server)).filter(name => name !== 'request')
  await first.close()
  t.ok(server.listening)
  t.match(reports, [{ outcome: 'clean', sockets: { idle: 0, silent: 0, destroyed: 0 } }])
  t.notOk(idle.socket.closed)
  const second = await create(server)
  await second.ready()
  idle.send(get('/'))
  t.match(await idle.answer(), { status: 200, body: 'ok' })
  t.equal(second.shutdownState.stats.received, 1)
  await second.close()
  t.ok(server.listening)
  t.ok(before.length > 0)
  await sleep(0)
  t.same(Object.keys(listeners(server)).filter(name => name !== 'request' && !before.includes(name)), [])
  idle.socket.destroy()
})

t.test('as a process', { timeout: 60_000 }, async t => {
  const directory = translate(t.testdir(), ['lib', 'test/wild/fixtures/restartable-service.ts'])
  const service = run(t, { args: [`${directory}/test/wild/fixtures/restartable-service.js`] })
  const port = Number(await service.said('port'))
  for (let count = 1; count <= 20; count++) {
    service.kill('SIGUSR2')
    await service.said(`restarted ${count}`)
    t.match(await fetchOnce(port, get('/')), { status: 200, body: `generation ${count + 1}` })
  }
  t.equal(service.count('report'), 20)
  const slow = await connect(port)
  slow.send(get('/slow'))
  await service.said('slow')
  const silent = await connect(port)
  service.kill('SIGTERM')
  t.match(await slow.answer(), { status: 200, body: 'generation 21' })
  const { code, signal, stderr } = await service.ended
  t.same({ code, signal, stderr }, { code: 0, signal: null, stderr: '' })
  t.same(service.lines.at(-1), 'report 21 clean signal')
  await silent.over
})
