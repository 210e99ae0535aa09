/**
 * The ways to close a server, at every moment of its life: close(), start() and signals, before, during and after boot.
 */
import dns from 'node:dns'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { Writable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import pino from 'pino'
import t from 'tap'
import gracefulShutdown = require('../../lib/index')
import { within } from '../../lib/util/time'
import { createDeferred } from '../../lib/util/deferred'
import type { Phase, ShutdownOptions, ShutdownReport } from '../../types/index'
import { connect, eventually, fetchOnce, get, portOf } from '../helpers/client'
import { Fastify } from '../helpers/fastify'
import { build, entered, giveLocalhostTwoAddresses, serve, serveHeld } from '../helpers/serve'

const namesOf = ({ phases }: ShutdownReport): Phase[] => phases.map(({ phase }) => phase)

/** A log that is kept in memory. */
function logTo (lines: Record<string, any>[]): { level: string, stream: Writable } { // any: log lines have any shape
  return {
    level: 'debug',
    stream: new Writable({
      write (chunk, _encoding, callback) {
        lines.push(JSON.parse(String(chunk)))
        callback()
      }
    })
  }
}

t.test('close() twice at the same time closes once', async t => {
  const calls: string[] = []
  const { app, report } = await serve(t, {
    options: { resources: { cache: { close: () => { calls.push('cache') } } } },
    routes: app => { app.addHook('onClose', async () => { calls.push('hook') }) }
  })
  await Promise.all([app.close(), app.close(), app.shutdown.start()])
  await app.close()
  t.strictSame(calls, ['hook', 'cache'])
  t.equal(await app.shutdown.start(), await report)
})

t.test('every caller of start() gets the same frozen report', async t => {
  const { app, report } = await serve(t)
  const [first, second] = await Promise.all([app.shutdown.start('one'), app.shutdown.start('two')])
  t.equal(first, second)
  t.equal(first, await report)
  t.strictSame(first.reason, { kind: 'start', detail: 'one' })
  t.ok(Object.isFrozen(first) && Object.isFrozen(first.phases) && Object.isFrozen(first.phases[0]))
})

t.test('close(), start() and a signal behave alike from draining on', async t => {
  const ways: Record<string, (app: FastifyInstance) => unknown> = {
    close: app => app.close(),
    start: app => app.shutdown.start(),
    signal: () => process.kill(process.pid, 'SIGHUP')
  }
  const seen: Record<string, unknown> = {}
  const before = process.listenerCount('SIGHUP')
  for (const [kind, begin] of Object.entries(ways)) {
    const calls: string[] = []
    const { app, report, holder, release } = await serveHeld(t, {
      options: {
        signals: ['SIGHUP'],
        uncaughtErrors: false,
        exit: false,
        resources: { cache: { close: () => { calls.push('cache') } }, queue: { dependsOn: ['cache'], pause: () => { calls.push('pause') }, close: () => { calls.push('queue') } } }
      },
      routes: app => { app.addHook('onClose', async () => { calls.push('hook') }) }
    })
    app.shutdown.on('draining', () => { calls.push('draining') })
    void begin(app)
    await entered(app, 'draining')
    const { status } = await fetchOnce(app, get('/hold'))
    release()
    await holder.answer()
    const { reason, outcome, exitCode, requests, sockets } = await report
    t.equal(reason.kind, kind)
    seen[kind] = { calls, status, phases: namesOf(await report), outcome, exitCode, requests, sockets }
    await app.close()
  }
  t.strictSame(seen.start, seen.close)
  t.strictSame(seen.signal, seen.close)
  t.match(seen.close, { calls: ['draining', 'pause', 'hook', 'queue', 'cache'], status: 503, phases: ['draining', 'cleaning', 'shutdown'], outcome: 'clean' })
  await eventually(() => process.listenerCount('SIGHUP') === before, () => process.listeners('SIGHUP').map(String))
})

t.test('close() before the app is ready boots the app, closes it and returns the report', async t => {
  const calls: string[] = []
  const { app, report } = await build(t, {
    options: { resources: { cache: { close: () => { calls.push('cache') } } } },
    routes: app => {
      app.addHook('onClose', async () => { calls.push('hook') })
      void app.register(async child => { child.addHook('onClose', async () => { calls.push('child') }) })
    }
  })
  await app.close()
  t.strictSame(calls, ['child', 'hook', 'cache'])
  t.match(await report, { outcome: 'clean', reason: { kind: 'close' } })
})

t.test('start() before the app is ready boots the app, closes it and returns the report', async t => {
  const { app } = await build(t)
  t.match(await app.shutdown.start(), { outcome: 'clean', reason: { kind: 'start' } })
})

t.test('close() of an app that never listened closes its resources', async t => {
  const { app, report } = await build(t)
  await app.ready()
  t.equal((await app.inject('/')).statusCode, 404)
  await app.close()
  t.match(await report, { outcome: 'clean' })
})

t.test('close() after a failed boot closes the resources that exist, even if a dependency was never registered', async t => {
  const calls: string[] = []
  const { app, report } = await build(t, {
    options: {
      resources: {
        worker: { dependsOn: ['queue', 'postgres'], close: () => { calls.push('worker') } },
        queue: { dependsOn: ['cache'], close: () => { calls.push('queue') } },
        cache: { close: () => { calls.push('cache') } }
      }
    },
    routes: app => {
      void app.register(async child => {
        child.addHook('onClose', async () => { calls.push('hook') })
        throw new Error('no postgres')
      })
    }
  })
  await t.rejects(async () => app.ready(), { message: 'no postgres' })
  await app.close()
  t.strictSame(calls, ['hook', 'worker', 'queue', 'cache'])
  t.match(await report, { outcome: 'clean' })
})

t.test('close() after an invalid dependency graph closes the resources that exist', async t => {
  for (const [code, resources] of [
    ['FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY', { a: { dependsOn: ['b'] }, c: {} }],
    ['FST_ERR_SHUTDOWN_CIRCULAR_DEPENDENCY', { a: { dependsOn: ['c'] }, c: { dependsOn: ['a'] } }]
  ] as const) {
    const calls: string[] = []
    const { app } = await build(t, {
      options: { resources: Object.fromEntries(Object.entries(resources).map(([name, resource]) => [name, { ...resource, close: () => { calls.push(name) } }])) }
    })
    await t.rejects(app.listen({ port: 0 }), { code })
    await app.close()
    t.strictSame(calls.sort(), ['a', 'c'])
    t.notOk(app.server.listening)
  }
})

t.test('close() after a failed listen() closes the resources', async t => {
  const { app: other } = await serve(t)
  const { app, report } = await build(t)
  await t.rejects(app.listen({ port: portOf(other), host: '127.0.0.1' }), { code: 'EADDRINUSE' })
  await app.close()
  t.match(await report, { outcome: 'clean' })
})

t.test('close() during listen() leaves no listening server behind', async t => {
  giveLocalhostTwoAddresses(t)
  for (const host of ['127.0.0.1', 'localhost']) {
    for (const moment of ['at once', 'when ready', 'when listening'] as const) {
      const { app } = await build(t)
      if (moment === 'when ready') await app.ready()
      const listening = app.listen({ port: 0, host }).catch(() => {})
      if (moment === 'when listening') await once(app.server, 'listening')
      const port = (app.server.address() as { port?: number } | null)?.port
      await app.close()
      // Never settles if the server was closed between its bind and its event.
      await within(200, () => listening)
      t.notOk(app.server.listening, `${host} ${moment}`)
      if (port !== undefined) for (const address of ['127.0.0.1', '127.0.0.2']) await t.rejects(connect(port, address), `${host} ${moment}`)
    }
  }
})

t.test('close() while listen() looks up a second address leaves no listening server behind, and causes no error', async t => {
  for (const newConnections of ['answer', 'refuse'] as const) {
    const held = createDeferred<void>()
    const { app } = await build(t, { options: { newConnections }, routes: app => { app.get('/', async () => held.promise) } })
    const second = createDeferred<void>()
    const { lookup } = dns
    const asked = createDeferred<void>()
    t.teardown(() => { dns.lookup = lookup })
    dns.lookup = ((_host: string, ...rest: [{ all?: boolean }, (...answer: unknown[]) => void]) => {
      const callback = rest.at(-1) as (...answer: unknown[]) => void
      const both = ['127.0.0.1', '127.0.0.2'].map(address => ({ address, family: 4 }))
      const answer = (): void => rest[0].all === true ? callback(null, both) : callback(null, both[0]!.address, 4)
      // Node looks the name up first, then Fastify once the server listens.
      if (!app.server.listening) return process.nextTick(answer)
      asked.resolve()
      void second.promise.then(() => { setImmediate(answer) })
    }) as typeof dns.lookup
    const listening = app.listen({ port: 0, host: 'localhost' }).catch(() => {})
    await asked.promise
    const port = portOf(app)
    const answer = app.inject('/')
    const closed = app.close()
    if (newConnections === 'refuse') {
      // While it still drains: the second server starts, and is closed at once.
      await entered(app, 'draining')
      second.resolve()
      await listening
      for (const address of ['127.0.0.1', '127.0.0.2']) await t.rejects(connect(port, address), { code: 'ECONNREFUSED' })
      t.equal(app.shutdownState.phase, 'draining')
    }
    held.resolve()
    await answer
    await closed
    // Fastify is closed by now, and reads the address of its closed server once more.
    second.resolve()
    await within(200, () => listening)
    for (const address of ['127.0.0.1', '127.0.0.2']) await t.rejects(connect(port, address), { code: 'ECONNREFUSED' })
  }
})

t.test('invalid options are errors at registration, and the error names the option', async t => {
  const bad: [ShutdownOptions | object, RegExp][] = [
    [{ retryAfter: -1 }, /'retryAfter'/],
    [{ retryAfter: NaN }, /'retryAfter'/],
    [{ retryAfter: '10\r\nX: y' }, /'retryAfter'.*\\nX/],
    [{ retryAfter: [5, 3] }, /'retryAfter'/],
    [{ delay: '5s' }, /'delay'.*'5s' \(string\)/],
    [{ delay: 40_000, gracePeriod: 30_000 }, /grace period/],
    [{ timeouts: { request: 1 } }, /Did you mean 'requests'/],
    [{ timeout: 1 }, /Did you mean 'timeouts'/],
    [{ newConnections: 'maybe' }, /'newConnections'/],
    [{ resources: { ['__proto__x'.slice(0, 9)]: { close () {} } } }, /name/]
  ]
  for (const [options, message] of bad) {
    const app = Fastify()
    t.teardown(() => app.close())
    const before = process.listenerCount('SIGTERM')
    await t.rejects(async () => app.register(gracefulShutdown, options as ShutdownOptions), { code: /^FST_ERR_SHUTDOWN_/, message }, String(message))
    t.equal(process.listenerCount('SIGTERM'), before)
  }
})

t.test('a duplicate resource name and an unknown phase are errors', async t => {
  const { app } = await build(t, { options: { resources: { cache: { close () {} } } } })
  t.throws(() => app.shutdown.resource('cache', { close () {} }), { code: 'FST_ERR_SHUTDOWN_DUPLICATE_RESOURCE' })
  t.throws(() => app.shutdown.on('drainin' as Phase, () => {}), { code: 'FST_ERR_SHUTDOWN_PHASE', message: /Did you mean 'draining'/ })
})

t.test("a drain may take longer than Fastify's pluginTimeout", async t => {
  const { app, report, holder, release } = await serveHeld(t, { fastify: { pluginTimeout: 100 } })
  const closed = app.close()
  await entered(app, 'draining')
  // The time is the thing under test: longer than Fastify's pluginTimeout.
  setTimeout(release, 300)
  t.match(await holder.answer(), { status: 200, body: 'held' })
  await closed
  t.match(await report, { outcome: 'clean', requests: { completed: 1 } })
})

t.test('a server in lame-duck serves requests with Connection: close, and is not ready', async t => {
  const order: string[] = []
  const { app, report } = await serve(t, {
    options: { delay: 200, resources: { worker: { pause: () => { order.push('pause') }, close () {} } } },
    routes: app => { app.get('/', async () => app.shutdownState) }
  })
  for (const phase of ['lame-duck', 'draining', 'cleaning', 'shutdown'] as const) app.shutdown.on(phase, () => { order.push(phase) })
  const done = app.shutdown.start()
  await entered(app, 'lame-duck')
  const client = await connect(app)
  client.send(get('/'))
  const answer = await client.answer()
  t.match(answer, { status: 200, headers: { connection: 'close' } })
  t.match(JSON.parse(answer.body), { phase: 'lame-duck', ready: false, accepting: true })
  t.notOk(app.shutdownState.signal.aborted)
  t.equal(await client.over, 'end')
  t.equal((await app.inject('/')).statusCode, 200)
  await done
  t.ok(app.shutdownState.signal.aborted)
  t.strictSame(order, ['lame-duck', 'pause', 'draining', 'cleaning', 'shutdown'])
  const { phases } = await report
  t.ok(phases[0]!.durationMs >= 195, 'lame-duck lasts for the complete delay')
  t.match(phases.map(({ phase }) => phase), ['lame-duck', 'draining', 'cleaning', 'shutdown'])
})

t.test('a plain close() has no lame-duck phase', async t => {
  const { app, report } = await serve(t, { options: { delay: 10_000 } })
  await app.close()
  t.strictSame(namesOf(await report), ['draining', 'cleaning', 'shutdown'])
})

t.test('idle connections end evenly over the lame-duck phase, not all at once', async t => {
  const { app, report } = await serve(t, { options: { delay: 500 } })
  const clients = await Promise.all(Array.from({ length: 20 }, async () => {
    const client = await connect(app)
    client.send(get('/'))
    await client.answer()
    return client
  }))
  const began = performance.now()
  const done = app.shutdown.start()
  const times = await Promise.all(clients.map(async client => {
    await client.over
    return performance.now() - began
  }))
  t.equal(app.shutdownState.phase, 'lame-duck', 'all connections have ended when draining begins')
  times.sort((a, b) => a - b)
  t.ok(times.filter(time => time < 250).length <= 12, `about half of them end in the first half: ${times.map(Math.round).join(', ')}`)
  t.ok(new Set(times.map(time => Math.floor(time / 50))).size >= 5, 'they end in many steps')
  await done
  t.match(await report, { sockets: { idle: 20 } })
})

t.test('a connection that is used in lame-duck closes after its response, and is not cut', async t => {
  const { app } = await serve(t, { options: { delay: 300 } })
  const client = await connect(app)
  client.send(get('/'))
  t.match(await client.answer(), { headers: { connection: 'keep-alive' } })
  app.shutdown.on('lame-duck', () => { client.send(get('/')) })
  const done = app.shutdown.start()
  t.match(await client.answer(), { status: 404, headers: { connection: 'close' } })
  t.equal(await client.over, 'end')
  await done
})

t.test('a stream of server-sent events ends with its end marker', async t => {
  const { app, report } = await serve(t, {
    routes: app => {
      app.get('/events', (_request, reply) => {
        async function * events (): AsyncGenerator<string> {
          yield 'data: 1\n\n'
          await new Promise(() => {})
        }
        return reply.header('content-type', 'text/event-stream').send(app.shutdown.stream(events(), { end: gracefulShutdown.sse() }))
      })
    }
  })
  const client = await connect(app)
  client.send(get('/events'))
  await client.until('data: 1')
  t.match(app.shutdownState, { activeRequests: 0, activeStreams: 1 })
  const closed = app.close()
  t.match(await client.answer(), { status: 200, body: 'data: 1\n\nevent: end\nretry: 1000\ndata: {"type":"end","reason":"shutdown"}\n\n' })
  t.equal(await client.over, 'end')
  await closed
  t.match(await report, { outcome: 'clean', streams: { ended: 1, cut: 0 } })
})

t.test('a stream whose end marker throws is destroyed, and affects no other stream', async t => {
  const { app, report } = await serve(t, {
    routes: app => {
      app.get('/events', (_request, reply) => {
        async function * events (): AsyncGenerator<string> {
          yield 'data: 1\n\n'
          await new Promise(() => {})
        }
        return reply.send(app.shutdown.stream(events(), { end: () => { throw new Error('no marker') } }))
      })
    }
  })
  const client = await connect(app)
  client.send(get('/events'))
  await client.until('data: 1')
  await app.close()
  await client.over
  t.match(await report, { outcome: 'forced', streams: { cut: 1 } })
})

t.test('cut(id) ends one request at once, and no other', async t => {
  const { app, report, holder, release } = await serveHeld(t, { options: { track: 'detail' } })
  const other = await connect(app)
  other.send(get('/hold?secret=1'))
  await eventually(() => app.shutdownState.activeRequests === 2, () => app.shutdownState)
  const [, second] = app.shutdownState.requests()
  t.match(second, { method: 'GET', route: '/hold', kind: 'request', ageMs: Number })
  t.notOk(JSON.stringify(app.shutdownState).includes('secret'), 'the URL is not shown')
  t.notOk(app.shutdown.cut('nobody'))
  t.ok(app.shutdown.cut(second!.id))
  t.match(await other.answer(), { status: 503, headers: { 'retry-after': '10' } })
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  t.match(app.shutdownState.stats, { received: 2, cut: 1 })
  release()
  t.match(await holder.answer(), { status: 200 })
  await app.close()
  t.match(await report, { outcome: 'clean' })
})

t.test('request.shutdownSignal aborts right before its request is cut, and the handler may still respond', async t => {
  const { app } = await serve(t, {
    options: { timeouts: { requests: 200 } },
    routes: app => {
      app.get('/', async request => {
        await once(request.shutdownSignal, 'abort')
        return 'as far as I came'
      })
    }
  })
  const client = await connect(app)
  client.send(get('/'))
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const closed = app.close()
  t.match(await client.answer(), { status: 200, body: 'as far as I came', headers: { connection: 'close' } })
  await closed
})

t.test('request.shutdownSignal aborts when the client leaves, not after a response', async t => {
  const signals: AbortSignal[] = []
  const { app } = await serve(t, {
    routes: app => {
      app.get('/', async request => {
        signals.push(request.shutdownSignal)
        t.equal(request.shutdownSignal, request.shutdownSignal, 'the getter always returns the same signal')
        if (request.url !== '/') return 'hello'
        await new Promise(resolve => { request.shutdownSignal.addEventListener('abort', resolve) })
      })
      app.get('/answered', async request => {
        signals.push(request.shutdownSignal)
        return 'hello'
      })
    }
  })
  await fetchOnce(app, get('/answered'))
  const client = await connect(app)
  client.send(get('/'))
  await eventually(() => signals.length === 2, () => signals.length)
  client.socket.resetAndDestroy()
  await once(signals[1]!, 'abort')
  t.match(signals[1]!.reason, { name: 'AbortError' })
  t.notOk(signals[0]!.aborted)
})

t.test('the log has each phase, what is pending, and the end', async t => {
  const lines: Record<string, any>[] = [] // any: log lines have any shape
  const { app, release } = await serveHeld(t, {
    fastify: { logger: logTo(lines) },
    options: { resources: { cache: { close: async () => { throw new Error('cache is gone') } } } }
  })
  const closed = app.close()
  const waiting = 'shutdown: still waiting for GET /hold'
  await eventually(() => lines.some(({ msg }) => msg === waiting), () => lines.map(({ msg }) => msg))
  release()
  await t.rejects(closed, { code: 'FST_ERR_SHUTDOWN_TEARDOWN' })
  const written = lines.filter(({ msg }) => /shutdown/.test(msg)).map(({ level, msg }) => [level, msg.replace(/\d+ ms/, 'N ms')])
  t.strictSame(written, [
    [30, 'graceful shutdown is ready (test-runner)'],
    [30, 'shutdown: draining'],
    [30, waiting],
    [30, 'shutdown: cleaning'],
    [50, "shutdown: resource 'cache' failed"],
    [30, 'shutdown: shutdown'],
    [50, 'shutdown: failed in N ms: 1 completed; failed cache']
  ])
  t.match(lines.find(({ msg }) => msg === waiting), { shutdown: { phase: 'draining', pending: ['GET /hold'], count: 1, elapsedMs: Number, remainingMs: Number } })
  t.match(lines.at(-1), { shutdown: { outcome: 'failed', exitCode: 1, reason: { kind: 'close' }, requests: { completed: 1 } } })
})

t.test('an asynchronous pino destination is flushed before close() resolves', async t => {
  const file = path.join(t.testdir(), 'log')
  const destination = pino.destination({ dest: file, sync: false, minLength: 8192 })
  await once(destination, 'ready')
  const { app } = await serve(t, { fastify: { loggerInstance: pino({}, destination) } })
  app.log.info('the last word')
  t.equal(await readFile(file, 'utf8'), '', 'the lines are still buffered')
  await app.close()
  t.match(await readFile(file, 'utf8'), /the last word[^]*shutdown: clean in/)
})

t.test('two apps in one process shut down independently', async t => {
  const { app: first } = await serve(t)
  const { app: second, report } = await serve(t)
  await first.close()
  t.match([first.shutdownState.phase, second.shutdownState.phase], ['shutdown', 'running'])
  t.equal((await fetchOnce(second, get('/'))).status, 404)
  t.equal(second.shutdownState.stats.received, 1)
  await second.close()
  t.match(await report, { outcome: 'clean' })
})

t.test('twenty apps leave no listeners or timers behind', async t => {
  // Not 'exit', because the test runner adds and removes listeners of its own there.
  const events = ['SIGTERM', 'SIGINT', 'uncaughtException', 'unhandledRejection', 'warning', 'beforeExit']
  const listeners = (): number[] => events.map(event => process.listenerCount(event))
  const before = listeners()
  for (let life = 0; life < 20; life++) {
    const { app } = await serve(t, { options: { signals: ['SIGTERM', 'SIGINT'] } })
    await fetchOnce(app, get('/'))
    await app.close()
  }
  t.strictSame(listeners(), before)
})

t.test('an error thrown by onReport is logged and changes nothing', async t => {
  const lines: Record<string, any>[] = [] // any: log lines have any shape
  const told = createDeferred<ShutdownReport>()
  const { app } = await serve(t, {
    fastify: { logger: logTo(lines) },
    options: {
      onReport (report) {
        told.resolve(report)
        throw new Error('no')
      }
    }
  })
  await app.close()
  t.match(await told.promise, { outcome: 'clean' })
  t.ok(lines.some(({ level, msg }) => level === 50 && /onReport/.test(msg)))
})
