/** The shutdown of a plain server of node:http, on real sockets. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import http2 from 'node:http2'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import { attach } from '../../lib/attach'
import { turn } from '../../lib/util/time'
import type { Http2Answer } from '../helpers/client'
import { connect, eventually, fetchOnce, get, openSession, post } from '../helpers/client'
import { reached, serveAttached } from '../helpers/attached'
import { rejected } from '../helpers/serve'

t.test('a request in flight gets its answer, and a new one the 503', async t => {
  const attached = await serveAttached(t)
  const holder = await attached.hold()
  const over = attached.shutdown.start('deploy')
  await reached(attached, 'draining')
  t.match(await fetchOnce(attached.port, get('/')), rejected)
  t.equal(attached.shutdownState.accepting, false)
  attached.release()
  t.match(await holder.answer(), { status: 200, headers: { connection: 'close' }, body: 'held' })
  t.equal(await holder.over, 'end')
  t.match(await over, {
    outcome: 'clean',
    exitCode: 0,
    reason: { kind: 'start', detail: 'deploy' },
    requests: { completed: 1, rejected: 1, aborted: 0, cut: [] }
  })
  t.match(attached.shutdownState.stats, { received: 2, completed: 1, rejected: 1, aborted: 0, cut: 0 })
  await t.rejects(connect(attached.port))
})

t.test('server.close() begins the shutdown', async t => {
  t.test('its callback is called when the resources have closed, and `close` is emitted once', async t => {
    let isClosed = false
    const attached = await serveAttached(t, {
      options: { resources: { database: { async close () { await new Promise(resolve => { setImmediate(resolve) }); isClosed = true } } } }
    })
    const { server, shutdown, report } = attached
    let events = 0
    server.on('close', () => { events++ })
    const holder = await attached.hold()
    const called = new Promise<{ error: unknown, isClosed: boolean }>(resolve => {
      t.equal(server.close(error => resolve({ error, isClosed })), server)
    })
    await reached(attached, 'draining')
    attached.release()
    t.match(await holder.answer(), { body: 'held' })
    t.strictSame(await called, { error: undefined, isClosed: true })
    t.equal(events, 1)
    t.match(await report, { reason: { kind: 'close', detail: 'server.close()' }, outcome: 'clean' })
    t.equal(await shutdown.start(), await report)
    t.equal(server.close(), server, 'a second close joins the first one')
  })

  t.test('its callback gets the errors of the resources', async t => {
    const { server, report } = await serveAttached(t, {
      options: { resources: { database: { close () { throw new Error('broken') } } } }
    })
    const error = await new Promise(resolve => { server.close(resolve) })
    t.match(error, { code: 'FST_ERR_SHUTDOWN_TEARDOWN' })
    t.match(await report, { outcome: 'failed', exitCode: 1, resources: [{ name: 'database', outcome: 'failed' }] })
  })

  t.test('in a resource, it resolves at once, because the server is drained', async t => {
    const { server, shutdown } = await serveAttached(t, {
      options: { resources: { owner: { close: () => new Promise(resolve => { server.close(() => resolve()) }) } } }
    })
    t.match(await shutdown.start(), { outcome: 'clean', resources: [{ name: 'owner', outcome: 'closed' }] })
  })

  t.test('before listen(), it closes the resources, and the server never listens', async t => {
    const server = createServer()
    const closed: string[] = []
    const { shutdown } = attach(server, {
      signals: false,
      log: false,
      resources: { redis: { close () { closed.push('redis') } }, queue: { dependsOn: ['redis'], close () { closed.push('queue') } } }
    })
    shutdown.resource('cron', { dependsOn: ['queue', 'unknown'], close () { closed.push('cron') } })
    await new Promise<void>(resolve => { server.close(() => resolve()) })
    t.strictSame(closed, ['cron', 'queue', 'redis'])
    await turn() // Until then, listen() fails with an `error` event.
    t.throws(() => server.listen(0), { code: 'FST_ERR_SHUTDOWN_LATE' })
  })
})

t.test('resources close by dependency, dependants first', async t => {
  const closed: string[] = []
  const note = (name: string) => () => { closed.push(name) }
  const { shutdown } = await serveAttached(t, {
    options: { resources: { postgres: { close: note('postgres') }, log: { last: true, close: note('log') }, redis: { dependsOn: ['postgres'], close: note('redis') } } },
    before: (_server, { shutdown }) => { shutdown.resource('worker', { dependsOn: ['redis'], pause: note('pause'), close: note('worker') }) }
  })
  shutdown.resource('late', { dependsOn: ['worker'], close: note('late') })
  t.match(await shutdown.start(), { outcome: 'clean' })
  t.strictSame(closed, ['pause', 'late', 'worker', 'redis', 'postgres', 'log'])
})

t.test('keep-alive clients lose no request', async t => {
  const attached = await serveAttached(t, { options: { delay: 300 } })
  const lost: string[] = []
  let answers = 0
  const clients = Array.from({ length: 20 }, async () => {
    for (;;) {
      // When draining begins, the server no longer listens.
      const client = await connect(attached.port).catch(() => null)
      if (client === null) return
      for (let isOpen = true; isOpen;) {
        client.send(get('/'))
        try {
          const { status, headers } = await client.answer()
          answers++
          if (status !== 200) lost.push(String(status))
          isOpen = headers['connection'] !== 'close'
        } catch (error) {
          lost.push(String(error))
          isOpen = false
        }
      }
      await client.over
    }
  })
  await eventually(() => answers > 500, () => answers)
  const report = await attached.shutdown.start()
  await Promise.all(clients)
  t.strictSame(lost, [])
  t.match(report, { outcome: 'clean', requests: { rejected: 0, aborted: 0, cut: [] } })
  t.equal(attached.shutdownState.stats.completed, answers)
})

t.test('lame-duck ends when no request comes, and exempt requests and probes do not count', async t => {
  const attached = await serveAttached(t, {
    options: { delay: { min: 0, max: 20_000, quiet: 300 }, exempt: ['/metrics'], probes: true }
  })
  await fetchOnce(attached.port, get('/'))
  const over = attached.shutdown.start()
  await reached(attached, 'lame-duck')
  t.match(await fetchOnce(attached.port, get('/')), { status: 200, headers: { connection: 'close' } })
  const probes = setInterval(() => {
    for (const path of ['/metrics?full', '/health/live']) void fetchOnce(attached.port, get(path)).catch(() => {})
  }, 50)
  t.teardown(() => clearInterval(probes))
  t.match(await over, { outcome: 'clean', phases: [{ phase: 'lame-duck', endedBy: 'quiet' }, {}, {}, {}] })
})

t.test('an exempt request is served while draining', async t => {
  for (const [name, exempt] of [['a list of paths', ['/metrics']], ['a function', ({ url }: IncomingMessage) => url!.startsWith('/metrics')]] as const) {
    t.test(name, async t => {
      const attached = await serveAttached(t, { options: { exempt } })
      await attached.hold()
      void attached.shutdown.start()
      await reached(attached, 'draining')
      t.match(await fetchOnce(attached.port, get('/metrics?full')), { status: 200, body: 'served' })
      t.match(await fetchOnce(attached.port, get('/metricsx').replace('x', exempt instanceof Array ? 'x' : '?')), exempt instanceof Array ? rejected : { status: 200 })
      t.match(await fetchOnce(attached.port, get('/')), rejected)
      const expecting = await connect(attached.port)
      expecting.send(post('/metrics', 'x', { Expect: '100-continue' }))
      t.match(await expecting.answer(), { status: 100 })
      t.match(await expecting.answer(), { status: 200 })
      attached.release()
    })
  }

  t.test('a function that throws is reported, and its request is rejected', async t => {
    const problems: unknown[] = []
    const exporter = { name: 'problems', start: ({ listen }: { listen(listener: (event: { type: string }) => void): void }) => listen(event => { if (event.type === 'problem') problems.push(event) }) }
    const attached = await serveAttached(t, { options: { exempt: () => { throw new Error('broken') }, exporters: [exporter as never] } })
    await attached.hold()
    void attached.shutdown.start()
    await reached(attached, 'draining')
    t.match(await fetchOnce(attached.port, get('/')), rejected)
    t.match(problems, [{ message: "'exempt' failed: the request is not exempt", error: { message: 'broken' } }])
    attached.release()
  })
})

t.test('errorResponseBuilder returns the body of the 503', async t => {
  const bodies = {
    text: () => 'later',
    json: (request: IncomingMessage, state: { phase: string }) => ({ path: request.url, phase: state.phase }),
    bytes: async () => Buffer.from('bytes'),
    nothing: () => undefined,
    broken: () => { throw new Error('broken') },
    response: () => new Response('<b>later</b>', { status: 200, headers: { 'content-type': 'text/html' } })
  }
  const expected = {
    text: { status: 503, headers: { 'content-type': 'text/plain; charset=utf-8', 'retry-after': '10', connection: 'close' }, body: 'later' },
    json: { status: 503, headers: { 'content-type': 'application/json; charset=utf-8' }, body: '{"path":"/json","phase":"draining"}' },
    bytes: { status: 503, headers: { 'content-type': 'application/octet-stream' }, body: 'bytes' },
    nothing: rejected,
    broken: rejected,
    response: { status: 503, headers: { 'content-type': 'text/html', 'retry-after': '10' }, body: '<b>later</b>' }
  }
  const rejections: unknown[] = []
  const exporter = { name: 'rejections', start: ({ listen }: { listen(listener: (event: unknown) => void, wants: (type: string) => boolean): void }) => listen(event => { rejections.push(event) }, type => type === 'request-rejected') }
  const attached = await serveAttached(t, {
    options: { exporters: [exporter as never], errorResponseBuilder: (request, state) => bodies[request.url!.slice(1) as keyof typeof bodies](request, state) }
  })
  await attached.hold()
  const over = attached.shutdown.start()
  await reached(attached, 'draining')
  for (const [name, answer] of Object.entries(expected)) t.match(await fetchOnce(attached.port, get(`/${name}`)), answer, name)
  t.match(rejections, Object.keys(expected).map(() => ({ type: 'request-rejected', method: 'GET', route: '' })))
  attached.release()
  t.match(await over, { outcome: 'failed', requests: { rejected: 6 }, errors: [{ message: /'errorResponseBuilder' failed/ }] })
})

t.test('an errorResponseBuilder that hangs delays no shutdown: its client gets the plain 503', async t => {
  const attached = await serveAttached(t, { options: { errorResponseBuilder: () => new Promise(() => {}) } })
  await attached.hold()
  const over = attached.shutdown.start()
  await reached(attached, 'draining')
  t.match(await fetchOnce(attached.port, get('/')), rejected)
  attached.release()
  t.match(await over, { outcome: 'clean' })
})

t.test('the 503 to an upload reaches its sender', async t => {
  const attached = await serveAttached(t)
  await attached.hold()
  void attached.shutdown.start()
  await reached(attached, 'draining')
  const client = await connect(attached.port)
  client.send(post('/upload', '', { 'Content-Length': '10000000' }))
  client.send(Buffer.alloc(5_000_000))
  t.match(await client.answer(), rejected)
  client.send(Buffer.alloc(5_000_000))
  t.equal(await client.over, 'end')
  attached.release()
})

t.test('an upload in flight is received to its end', async t => {
  const attached = await serveAttached(t, {
    handler: async (req: IncomingMessage, res: ServerResponse) => {
      let size = 0
      for await (const chunk of req) size += (chunk as Buffer).length
      res.end(String(size))
    }
  })
  const client = await connect(attached.port)
  client.send(post('/', '', { 'Content-Length': '200000' }))
  client.send(Buffer.alloc(100_000))
  await eventually(() => attached.shutdownState.activeRequests === 1, () => attached.shutdownState)
  const over = attached.shutdown.start()
  await reached(attached, 'draining')
  client.send(Buffer.alloc(100_000))
  t.match(await client.answer(), { status: 200, body: '200000' })
  t.match(await over, { outcome: 'clean', requests: { completed: 1, rejected: 0 } })
})

t.test('silent, idle and half-head connections end at once', async t => {
  const attached = await serveAttached(t)
  const silent = await connect(attached.port)
  const half = await connect(attached.port)
  half.send('GET / HT')
  const idle = await connect(attached.port)
  idle.send(get('/'))
  await idle.answer()
  const began = performance.now()
  const report = await attached.shutdown.start()
  await Promise.all([silent.over, half.over, idle.over])
  t.ok(performance.now() - began < 5_000, `${performance.now() - began} ms`)
  const { idle: closed, silent: unused, destroyed } = report.sockets
  t.strictSame([report.outcome, closed + unused, destroyed], ['clean', 3, 0])
})

t.test('a request that exceeds its time is cut, and its signal aborts', async t => {
  const aborted: unknown[] = []
  const attached = await serveAttached(t, {
    options: { timeouts: { requests: 200 }, track: 'detail' },
    handler: req => { attached.shutdown.signalOf(req).addEventListener('abort', () => { aborted.push(attached.shutdown.signalOf(req).reason) }) }
  })
  const client = await connect(attached.port)
  client.send(get('/stuck'))
  await eventually(() => attached.shutdownState.activeRequests === 1, () => attached.shutdownState)
  const report = await attached.shutdown.start()
  t.match(await client.answer(), { status: 503, headers: { 'retry-after': '10' } })
  t.match(report, { outcome: 'forced', exitCode: 1, requests: { cut: [{ method: 'GET', route: '', waitsFor: 'app' }] } })
  t.match(aborted, [{ code: 'FST_ERR_SHUTDOWN_DRAINING' }])
})

t.test('the signal of a request aborts when its client leaves', async t => {
  const attached = await serveAttached(t)
  const left = new Promise<void>(resolve => {
    attached.server.on('request', req => { attached.shutdown.signalOf(req).addEventListener('abort', () => resolve()) })
  })
  const client = await attached.hold()
  client.socket.destroy()
  await left
  t.match(attached.shutdownState.stats, { received: 1, aborted: 1 })
})

t.test('a stream ends with its marker', async t => {
  const attached = await serveAttached(t, {
    handler: (_req, res) => {
      const source = async function * (): AsyncGenerator<string> {
        yield 'begin '
        await new Promise(() => {})
      }
      attached.shutdown.stream(source(), { end: 'end' }).pipe(res)
    }
  })
  const client = await connect(attached.port)
  client.send(get('/'))
  const { rest } = await client.begin()
  await client.until('begin')
  t.equal(attached.shutdownState.activeStreams, 1)
  const report = await attached.shutdown.start()
  t.match(await rest, { whole: true, body: 'begin end' })
  t.match(report, { outcome: 'clean', streams: { ended: 1, cut: 0 } })
})

t.test('a WebSocket of ws gets close code 1001, and a new upgrade the 503', async t => {
  const attached = await serveAttached(t)
  const webSockets = new WebSocketServer({ server: attached.server })
  t.teardown(() => webSockets.close())
  const webSocket = new WebSocket(`ws://127.0.0.1:${attached.port}`)
  await once(webSocket, 'open')
  await eventually(() => attached.shutdownState.activeWebSockets === 1, () => attached.shutdownState)
  await attached.hold()
  const over = attached.shutdown.start()
  const [code] = await once(webSocket, 'close')
  t.equal(code, 1001)
  const upgrade = get('/', { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'AAAAAAAAAAAAAAAAAAAAAA==' })
  t.match(await fetchOnce(attached.port, upgrade), rejected)
  attached.release()
  t.match(await over, { outcome: 'clean', webSockets: { closed: 1, terminated: 0 } })
})

t.test('a server of HTTP/2 drains, and sends GOAWAY', async t => {
  const attached = await serveAttached(t, { create: handler => http2.createServer(handler as never), options: { probes: true } })
  const { get, goaway, closed } = openSession(attached.port)
  t.match(await get('/health/ready'), { status: 200, body: '{"status":"ok"}' })
  const held = get('/hold')
  await eventually(() => attached.shutdownState.activeRequests === 1, () => attached.shutdownState)
  const over = attached.shutdown.start()
  await goaway
  attached.release()
  t.match(await held, { status: 200, body: 'held', error: null } satisfies Partial<Http2Answer>)
  await closed
  t.match(await over, { outcome: 'clean', requests: { completed: 1 }, http2Sessions: { closed: 1, destroyed: 0 } })
})

t.test('probes are answered on their paths, before the handler', async t => {
  let isHealthy = true
  const attached = await serveAttached(t, { options: { probes: { startup: false, checks: { database: () => isHealthy } } } })
  const probe = async (path: string, method = 'GET'): Promise<unknown> => {
    const { status, body } = await fetchOnce(attached.port, get(path, {}, method))
    return [status, body]
  }
  t.strictSame(await probe('/health/live'), [200, '{"status":"ok"}'])
  t.strictSame(await probe('/health/ready?verbose'), [200, '{"status":"ok"}'])
  t.strictSame(await probe('/health/startup'), [200, 'served'])
  t.strictSame(await probe('/health/live', 'POST'), [200, 'served'])
  isHealthy = false
  await new Promise(resolve => { setTimeout(resolve, 600) }) // The result of a check is shared for 500 ms.
  t.strictSame(await probe('/health/ready'), [503, '{"status":"unavailable","failed":["database"]}'])
  await attached.hold()
  void attached.shutdown.start()
  await reached(attached, 'draining')
  t.strictSame(await probe('/health/ready'), [503, '{"status":"unavailable"}'])
  t.strictSame(await probe('/health/live'), [200, '{"status":"ok"}'])
  attached.release()
})

t.test('a listener of `request` that is added later gets no late request', async t => {
  let late = 0
  const attached = await serveAttached(t)
  attached.server.on('request', req => { if (req.url === '/late') late++ })
  await attached.hold()
  void attached.shutdown.start()
  await reached(attached, 'draining')
  t.match(await fetchOnce(attached.port, get('/late')), rejected)
  t.equal(late, 0)
  attached.release()
})

t.test('attach throws for a server that listens or already has a shutdown, and for any other value', async t => {
  const options = { signals: false, log: false } as const
  const server = createServer()
  const { shutdown } = attach(server, options)
  t.throws(() => attach(server, options), { code: 'FST_ERR_SHUTDOWN_REGISTRATION', message: /call attach once/ })
  await shutdown.start()

  const listening = createServer().listen(0)
  t.teardown(() => listening.close())
  await once(listening, 'listening')
  t.throws(() => attach(listening, options), { code: 'FST_ERR_SHUTDOWN_REGISTRATION', message: /before server.listen/ })

  for (const wrong of [undefined, {}, () => {}]) {
    t.throws(() => attach(wrong as never, options), { code: 'FST_ERR_SHUTDOWN_OPTION', message: /such as createServer\(app\), got/ })
  }
})

t.test('after a failed attach, the server is unchanged, and a second one succeeds', async t => {
  const options = { signals: false, log: false } as const
  const server = createServer()
  const listeners = (): unknown => server.eventNames().map(name => [name, server.listenerCount(name)])
  const before = listeners()
  for (const [wrong, code] of [
    [{ client: {} }, 'FST_ERR_SHUTDOWN_CLIENT'],
    [{ close: 1 }, 'FST_ERR_SHUTDOWN_RESOURCE']
  ] as const) {
    t.throws(() => attach(server, { ...options, resources: { database: wrong as never } }), { code })
    t.strictSame(listeners(), before)
    t.strictSame(Reflect.ownKeys(server).filter(key => ['listen', 'close', 'emit'].includes(String(key))), [])
  }
  const { shutdown } = attach(server, options)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.on('request', (_req, res) => res.end('served'))
  t.match(await fetchOnce(port, get('/')), { status: 200, body: 'served' })
  t.match(await shutdown.start(), { outcome: 'clean' })
})

t.test('a server whose `close` another library has replaced before drains', async t => {
  const attached = await serveAttached(t, {
    create: handler => {
      const server = createServer(handler)
      const { close } = server
      server.close = function (...args) { return close.apply(this, args) }
      return server
    }
  })
  const holder = await attached.hold()
  t.equal(attached.shutdownState.activeRequests, 1)
  const over = attached.shutdown.start()
  await reached(attached, 'draining')
  attached.release()
  t.match(await holder.answer(), { status: 200, headers: { connection: 'close' }, body: 'held' })
  t.match(await over, { outcome: 'clean', requests: { completed: 1 } })
  t.equal(attached.server.listening, false)
})

t.test('attach throws for a wrong option', async t => {
  for (const [wrong, message] of [
    [{ categories: {} }, /'categories' needs the routes of Fastify/],
    [{ categorize: () => undefined }, /'categorize' needs the routes of Fastify/],
    [{ track: 'category' }, /'track: 'category'' needs the routes of Fastify/],
    [{ prefix: '/' }, /'prefix' is not an option/],
    [{ resorces: {} }, /'resorces' is not an option.*resources/],
    [{ exempt: ['metrics'] }, /Expected 'exempt' to be a list of paths/],
    [{ log: { info () {} } }, /Expected 'log' to be/],
    [{ log: null }, /Expected 'log' to be/],
    [{ errorResponseBuilder: 'text' }, /Expected 'errorResponseBuilder' to be a function/]
  ] as const) {
    t.throws(() => attach(createServer(), wrong as never), { code: 'FST_ERR_SHUTDOWN_OPTION', message })
  }
})

t.test('listen() throws if the resources cannot be ordered', async t => {
  const server = createServer()
  const { shutdown } = attach(server, { signals: false, log: false, resources: { queue: { dependsOn: ['redi'], close () {} }, redis: { close () {} } } })
  t.throws(() => server.listen(0), { code: 'FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY', message: /Did you mean 'redis'/ })
  t.match(await shutdown.start(), { outcome: 'clean' })
})
