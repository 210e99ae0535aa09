/** Answers that Fastify does not make: another library, or the app itself, answers requests on the same server. */
import http, { type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance, FastifyServerOptions } from 'fastify'
import t, { type Test } from 'tap'
import { createConnections } from '../../lib/http/connections'
import { createIdleConnectionsDrain } from '../../lib/http/drains/idle-connections'
import { keepFirst } from '../../lib/http/kept-listener'
import { createDeferred } from '../../lib/util/deferred'
import { secondaryServersOf } from '../../lib/util/node-internals'
import { connect, eventually, get, post } from '../helpers/client'
import { build, entered, giveLocalhostTwoAddresses, rejected, serve, type Served } from '../helpers/serve'
import { dualStack, transports } from '../helpers/transports'
import type { ShutdownOptions } from '../../types/index'

type Listener = (req: IncomingMessage, res: ServerResponse) => void

/** Answers requests under `/raw/`: at once, when `gate` opens, or never. It counts its calls. */
function createRaw () {
  const gate = createDeferred<void>()
  let calls = 0
  return {
    gate,
    get calls () { return calls },
    answers: ({ url = '' }: IncomingMessage): boolean => url.startsWith('/raw/'),
    answer ({ url }: IncomingMessage, res: ServerResponse) {
      calls++
      if (url === '/raw/slow') void gate.promise.then(() => res.end('whole'))
      if (url === '/raw/stream') {
        res.write('who')
        void gate.promise.then(() => res.end('le'))
      }
      if (url === '/raw/fast') res.end('whole')
      if (url === '/raw/late') {
        void gate.promise.then(() => {
          res.setHeader('late', 'true')
          res.writeHead(200)
          res.write('who')
          res.end('le')
        })
      }
    }
  }
}

type Raw = ReturnType<typeof createRaw>

/** Takes the event over, as engine.io does. */
function takeOver (server: Server, raw: Raw): void {
  const copies = server.listeners('request').slice() as Listener[]
  server.removeAllListeners('request')
  server.on('request', (req, res) => raw.answers(req) ? raw.answer(req, res) : copies.forEach(each => each.call(server, req, res)))
}

/** Adds its own listener first, and then removes the others one by one. */
function takeOverLate (server: Server, raw: Raw): void {
  const copies = server.listeners('request').slice() as Listener[]
  server.on('request', (req, res) => raw.answers(req) ? raw.answer(req, res) : copies.forEach(each => each.call(server, req, res)))
  for (const copy of copies) server.removeListener('request', copy)
}

/** Takes the event over, gives it back, and takes it over again. */
function takeOverTwice (server: Server, raw: Raw): void {
  const copies = server.listeners('request').slice() as Listener[]
  takeOver(server, createRaw())
  server.removeAllListeners('request')
  for (const copy of copies) server.on('request', copy)
  takeOver(server, raw)
}

/** Handles the event before any listener gets it. */
function replaceEmit (server: Server, raw: Raw): void {
  const emit = server.emit
  server.emit = function (this: Server, event: string, ...args: unknown[]) {
    if (event !== 'request' || !raw.answers(args[0] as IncomingMessage)) return Reflect.apply(emit, this, [event, ...args]) as boolean
    raw.answer(args[0] as IncomingMessage, args[1] as ServerResponse)
    return true
  }
}

const factory = (raw: Raw): Partial<FastifyServerOptions> => ({
  serverFactory: handler => http.createServer((req, res) => raw.answers(req) ? raw.answer(req, res) : handler(req, res))
})

interface Way {
  readonly attach?: (server: Server, raw: Raw) => void
  readonly when?: 'before the plugin' | 'after the plugin' | 'after listen' | 'in lame-duck'
  readonly fastify?: (raw: Raw) => Partial<FastifyServerOptions>
  /** Whether its new requests reach it while draining. */
  readonly unstoppable?: true
}

const ways: Record<string, Way> = {
  'a listener that took over before the plugin was registered': { attach: takeOver, when: 'before the plugin' },
  'a listener that took over after the plugin was registered': { attach: takeOver, when: 'after the plugin' },
  'a listener that took over after listen()': { attach: takeOver, when: 'after listen' },
  'a listener that took over in lame-duck': { attach: takeOver, when: 'in lame-duck' },
  'a listener that took over and removed the others later': { attach: takeOverLate, when: 'after the plugin' },
  'a listener that gave back and took over again': { attach: takeOverTwice, when: 'after the plugin' },
  'a handler of serverFactory': { fastify: factory },
  'a replaced emit()': { attach: replaceEmit, when: 'after the plugin', unstoppable: true }
}

interface Started extends Served {
  readonly raw: Raw
  /** Begins the shutdown, and resolves when draining has begun. A task keeps it open until `release`. */
  drain(): Promise<void>
  release(): void
}

async function start (t: Test, way: Way, options: ShutdownOptions = {}): Promise<Started> {
  const raw = createRaw()
  t.teardown(() => raw.gate.resolve())
  const attach = (app: FastifyInstance, when: Way['when']): void => { if (way.when === when) way.attach?.(app.server, raw) }
  const served = await serve(t, {
    fastify: way.fastify?.(raw) ?? {},
    options: { newConnections: 'answer', delay: way.when === 'in lame-duck' ? 200 : 0, ...options },
    before: app => attach(app, 'before the plugin'),
    routes (app) {
      attach(app, 'after the plugin')
      app.get('/exempt', { config: { shutdown: { exempt: true } } }, async () => 'exempt')
      app.get('/own', async () => 'own')
    }
  })
  attach(served.app, 'after listen')
  served.app.shutdown.on('lame-duck', () => attach(served.app, 'in lame-duck'))
  const held = createDeferred<void>()
  t.teardown(() => held.resolve())
  return {
    ...served,
    raw,
    async drain () {
      served.app.shutdown.waitUntil(held.promise)
      void served.app.shutdown.start()
      await entered(served.app, 'draining')
    },
    release: held.resolve
  }
}

for (const [name, way] of Object.entries(ways)) {
  t.test(name, async t => {
    await t.test('its slow answers are delivered whole, whether they have begun or not', async t => {
      const { app, raw, report } = await start(t, way)
      // Its connection is idle when the library takes over.
      const used = await connect(app)
      used.send(get('/own'))
      t.equal((await used.answer()).body, 'own')
      const shutdown = way.when === 'in lame-duck' ? app.shutdown.start() : undefined
      const clients = [await connect(app), await connect(app), ...(shutdown === undefined ? [used] : [])]
      clients.forEach((client, index) => client.send(get(index === 0 ? '/raw/stream' : '/raw/slow')))
      await eventually(() => raw.calls === clients.length, () => raw.calls)
      if (way.unstoppable !== true) t.equal(app.shutdownState.activeRequests + app.shutdownState.activeStreams, clients.length)
      void app.shutdown.start()
      await entered(app, 'draining')
      t.equal(app.shutdownState.activeRequests + app.shutdownState.activeStreams, clients.length, 'they are in flight')
      raw.gate.resolve()
      for (const [index, client] of clients.entries()) {
        const answer = await client.answer()
        t.match(answer, { status: 200, body: 'whole' })
        if (index > 0) t.equal(answer.headers.connection, 'close')
        t.equal(await client.over, 'end')
      }
      t.match(await report, { outcome: 'clean', exitCode: 0, requests: { rejected: 0, aborted: 0, cut: [] }, sockets: { destroyed: 0 } })
      t.equal((await report).requests.completed, clients.length)
    })

    await t.test('its answer that does not come is cut at the end of its time, and counted', async t => {
      const { app, raw, report } = await start(t, way, { timeouts: { requests: 150 } })
      if (way.when === 'in lame-duck') void app.shutdown.start()
      const client = await connect(app)
      client.send(get('/raw/never'))
      await eventually(() => raw.calls === 1, () => raw.calls)
      void app.shutdown.start()
      t.match(await client.answer(), rejected)
      t.match(await report, { outcome: 'forced', requests: { cut: [{ method: 'GET' }] } })
    })

    await t.test('an answer of it that is sent directly after the cut has no effect', async t => {
      const { app, raw, report } = await start(t, way, { timeouts: { requests: 150 } })
      if (way.when === 'in lame-duck') void app.shutdown.start()
      const client = await connect(app)
      client.send(get('/raw/late'))
      await eventually(() => raw.calls === 1, () => raw.calls)
      void app.shutdown.start()
      await client.until('503 ')
      raw.gate.resolve()
      t.match(await client.answer(), rejected)
      t.match(await report, { outcome: 'forced', requests: { cut: [{ method: 'GET' }] } })
    })

    if (way.unstoppable === true) return
    await t.test('its new requests get our 503 while draining, and exempt routes are served', async t => {
      const { app, raw, drain, release, report } = await start(t, way)
      await drain()
      for (const path of ['/raw/fast', '/raw/slow', '/own']) {
        const client = await connect(app)
        client.send(path === '/raw/slow' ? post(path, 'body') : get(path))
        t.match(await client.answer(), rejected, path)
        t.equal(await client.over, 'end')
      }
      const client = await connect(app)
      client.send(get('/exempt'))
      t.match(await client.answer(), { status: 200, body: 'exempt' })
      t.equal(raw.calls, 0)
      release()
      t.match(await report, { outcome: 'clean', requests: { rejected: 3, completed: 1 } })
    })

    await t.test('a request is counted once, also if the library calls a copy of our listener', async t => {
      const { app, report } = await start(t, way)
      const client = await connect(app)
      for (let count = 1; count <= 3; count++) {
        client.send(get('/own'))
        t.equal((await client.answer()).body, 'own')
        t.match(app.shutdownState.stats, { received: count, completed: count })
      }
      if (way.when !== 'in lame-duck') {
        client.send(get('/raw/fast'))
        t.equal((await client.answer()).body, 'whole')
        t.equal(app.shutdownState.stats.received, 4)
      }
      await app.shutdown.start()
      t.equal((await report).outcome, 'clean')
    })
  })
}

t.test('a library that takes over the event while draining gets no request', async t => {
  const { app, raw, drain, release, report } = await start(t, {})
  await drain()
  takeOver(app.server, raw)
  const client = await connect(app)
  client.send(get('/raw/fast'))
  t.match(await client.answer(), rejected)
  t.equal(raw.calls, 0)
  release()
  t.equal((await report).outcome, 'clean')
})

t.test('a request that the app takes from Fastify because of its Expect header is rejected while draining', async t => {
  const { app, drain, release, report } = await start(t, {})
  let calls = 0
  for (const event of ['checkContinue', 'checkExpectation']) {
    app.server.on(event, (_req: IncomingMessage, res: ServerResponse) => {
      calls++
      res.end('mine')
    })
  }
  for (const expect of ['100-continue', 'something else']) {
    const client = await connect(app)
    client.send(get('/own', { Expect: expect }))
    t.equal((await client.answer()).body, 'mine')
  }
  await drain()
  for (const expect of ['100-continue', 'something else']) {
    const client = await connect(app)
    client.send(get('/own', { Expect: expect }))
    t.match(await client.answer(), rejected)
  }
  t.equal(calls, 2)
  release()
  t.match(await report, { outcome: 'clean', requests: { rejected: 2 } })
})

t.test('both servers of a dual-stack listen deliver such answers whole', async t => {
  giveLocalhostTwoAddresses(t)
  const raw = createRaw()
  const { app, report } = await build(t, { options: { newConnections: 'answer' } })
  await app.listen({ port: 0, host: 'localhost' })
  const [second] = secondaryServersOf(app) as Server[]
  for (const server of [app.server, second!]) takeOver(server, raw)
  const clients = [await connect(app, '127.0.0.1'), await connect(app, '127.0.0.2')]
  for (const client of clients) client.send(get('/raw/slow'))
  await eventually(() => raw.calls === 2, () => raw.calls)
  void app.shutdown.start()
  await entered(app, 'draining')
  for (const host of ['127.0.0.1', '127.0.0.2']) {
    const late = await connect(app, host)
    late.send(get('/raw/fast'))
    t.match(await late.answer(), rejected)
  }
  raw.gate.resolve()
  for (const client of clients) t.match(await client.answer(), { status: 200, body: 'whole' })
  t.match(await report, { outcome: 'clean', requests: { completed: 2, rejected: 2 } })
})

t.test('a request that only a replaced emit() gets while draining is answered whole, too', async t => {
  const { app, raw, drain, release, report } = await start(t, ways['a replaced emit()']!)
  await drain()
  const client = await connect(app)
  client.send(get('/raw/slow'))
  await eventually(() => raw.calls === 1, () => raw.calls)
  release()
  await new Promise(resolve => { setTimeout(resolve, 100) })
  raw.gate.resolve()
  t.match(await client.answer(), { status: 200, headers: { connection: 'close' }, body: 'whole' })
  t.match(await report, { outcome: 'clean', requests: { completed: 1 }, sockets: { idle: 0, destroyed: 0 } })
})

t.test('a connection with an unfinished answer is not idle, also if no listener of ours got its request', async t => {
  const answers: ServerResponse[] = []
  const server = http.createServer((_req, res) => { answers.push(res) })
  const connections = createConnections(() => {})
  connections.attach(server)
  const idle = createIdleConnectionsDrain(connections, () => new Set(), () => {})
  idle.attach(server)
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => { server.close() })
  const client = await connect((server.address() as AddressInfo).port)
  client.send(get('/'))
  await eventually(() => answers.length === 1, () => answers.length)
  idle.enterLameDuck!(50)
  await new Promise(resolve => { setTimeout(resolve, 150) })
  idle.beginDraining()
  await new Promise(resolve => { setTimeout(resolve, 20) })
  answers[0]!.end('whole')
  t.equal((await client.answer()).body, 'whole')
  idle.beginDraining()
  t.equal(await client.over, 'end')
  t.match(idle.counts(), { idle: 1, destroyed: 0 })
})

t.test('an answer that the app ends before Fastify gets the request reaches a slow reader whole', async t => {
  const { app, report } = await serve(t, {
    options: { newConnections: 'answer' },
    routes (app) {
      app.server.prependListener('request', (req: IncomingMessage, res: ServerResponse) => {
        if (req.url === '/raw/big') res.end(Buffer.alloc(20_000_000, 'a'))
      })
    }
  })
  const client = await connect(app)
  client.send(get('/raw/big'))
  await client.until('200 OK')
  client.socket.pause()
  void app.shutdown.start()
  await entered(app, 'draining')
  const late = await connect(app)
  late.send(get('/raw/big'))
  t.match(await late.answer(), rejected)
  client.socket.resume()
  const answer = await client.answer()
  t.equal(answer.body.length, 20_000_000)
  t.equal(await client.over, 'end')
  t.match(await report, { outcome: 'clean', requests: { completed: 1, rejected: 1, aborted: 0 }, sockets: { destroyed: 0 } })
})

for (const transport of transports.filter(each => each !== dualStack)) {
  t.test(`over ${transport.name}, such an answer is delivered whole`, async t => {
    const raw = createRaw()
    const { app, port } = await transport.start({}, app => takeOver(app.server, raw))
    const client = transport.connect(port)
    const answer = client.get('/raw/slow')
    const stream = await client.begin('/raw/stream')
    await eventually(() => raw.calls === 2, () => raw.calls)
    const closing = app.shutdown.start()
    await entered(app, 'draining')
    raw.gate.resolve()
    t.match(await answer, { status: 200, body: 'whole', whole: true })
    t.match(await stream.rest, { status: 200, body: 'whole', whole: true })
    t.match(await closing, { outcome: 'clean', requests: { completed: 2, aborted: 0, cut: [] }, streams: { ended: 1, cut: 0 } })
    client.close()
  })
}

t.test('keepFirst', async t => {
  await t.test('a server that is handed over to another app is no longer changed', async t => {
    const server = http.createServer()
    const calls: string[] = []
    const emit = (): boolean => server.emit('request', {} as IncomingMessage, {} as ServerResponse)
    const one = keepFirst(server, 'request', () => calls.push('one'), true)
    const [first] = server.listeners('request') as Listener[]
    keepFirst(server, 'request', () => calls.push('two'), true)
    emit()
    server.on('request', () => calls.push('handler'))
    server.removeListener('request', first!)
    await new Promise(resolve => { setImmediate(resolve) })
    emit()
    one.replaceAll(() => calls.push('never'))
    emit()
    t.same(calls, ['two', 'one', 'two', 'handler', 'two', 'handler'])
  })

  await t.test('the listeners of another app on the same server stay', async t => {
    const server = http.createServer()
    server.on('upgrade', () => {})
    const one = keepFirst(server, 'upgrade', () => {}, false)
    keepFirst(server, 'upgrade', () => {}, false)
    t.equal(server.listenerCount('upgrade'), 3)
    one.replaceAll(null)
    t.equal(server.listenerCount('upgrade'), 2)
  })

  await t.test('without `alone`, the listener is added before the first other listener', async t => {
    const server = http.createServer()
    const kept = keepFirst(server, 'upgrade', () => {}, false)
    t.equal(server.listenerCount('upgrade'), 0)
    server.on('upgrade', () => {})
    t.equal(server.listenerCount('upgrade'), 2)
    kept.replaceAll(null)
    t.equal(server.listenerCount('upgrade'), 0)
    server.on('upgrade', () => {})
    await new Promise(resolve => { setImmediate(resolve) })
    t.equal(server.listenerCount('upgrade'), 0, 'a later listener is removed')
  })
})
