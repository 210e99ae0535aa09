/** Code of the app that still runs after its client has left: no resource closes under it, and the counts return to 0. */
import type { EventEmitter } from 'node:events'
import http2 from 'node:http2'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { abort, connect, eventually, get, openSession } from '../helpers/client'
import { serve } from '../helpers/serve'

interface Work {
  /** The client leaves while it runs, and it takes some more time. */
  run (): Promise<void>
  /** Makes the client leave. Resolves when the server has seen it. */
  untilLeft (): Promise<void>
}

const rows: Record<string, (app: FastifyInstance, work: Work) => void> = {
  'an async onSend hook, after a handler that returns a value' (app, { run }) {
    app.addHook('onSend', async () => { await run() })
    app.get('/', async () => 'text')
  },
  'an async onSend hook, after a handler that returns nothing' (app, { run }) {
    app.addHook('onSend', async () => { await run() })
    app.get('/', async () => {})
  },
  'an async onSend hook of the route, after reply.send()' (app, { run }) {
    app.get('/', { onSend: [async () => { await run() }] }, (_request, reply) => { reply.send('text') })
  },
  'two async onSend hooks, after a handler that returns nothing' (app, { run }) {
    app.addHook('onSend', async () => { await sleep(20) })
    app.addHook('onSend', async () => { await run() })
    app.get('/', async () => {})
  },
  'an onSend hook that begins after the client has left' (app, { run, untilLeft }) {
    app.addHook('onSend', async () => { await run() })
    app.get('/', async () => {
      await untilLeft()
      return 'text'
    })
  },
  'an onSend hook that begins after the client has left, with a web stream' (app, { run, untilLeft }) {
    app.addHook('onSend', async () => { await run() })
    app.get('/', async () => {
      await untilLeft()
      return new Response('text')
    })
  },
  'an async preSerialization hook' (app, { run }) {
    app.addHook('preSerialization', async (_request, _reply, payload) => {
      await run()
      return payload
    })
    app.get('/', async () => ({ a: 1 }))
  },
  'an async onError hook' (app, { run }) {
    app.addHook('onError', async () => { await run() })
    app.get('/', async () => { throw new Error('no') })
  },
  'an async error handler that returns its answer' (app, { run }) {
    app.setErrorHandler(async () => {
      await run()
      return 'no'
    })
    app.get('/', async () => { throw new Error('no') })
  },
  'an async error handler that sends its answer first, of a route whose client left before' (app, { run, untilLeft }) {
    app.setErrorHandler(async (_error, _request, reply) => {
      reply.send('no')
      await run()
    })
    app.get('/', (_request, reply) => { void untilLeft().then(() => reply.send(new Error('no'))) })
  },
  'an async error handler that sends nothing, of a route whose client left before' (app, { run, untilLeft }) {
    app.get('/', { errorHandler: async () => { await run() } }, async () => {
      await untilLeft()
      throw new Error('no')
    })
  },
  'a callback error handler' (app, { run }) {
    app.setErrorHandler((_error, _request, reply) => { void run().then(() => reply.send('no')) })
    app.get('/', () => { throw new Error('no') })
  },
  'an async onRequestAbort hook' (app, { run, untilLeft }) {
    app.addHook('onRequestAbort', async _request => { await run() })
    app.get('/', async () => { await untilLeft() })
  },
  'an async onRequestAbort hook of a stream' (app, { run, untilLeft }) {
    app.get('/', { onRequestAbort: async _request => { await run() } }, (_request, reply) => {
      reply.hijack()
      reply.raw.write('begun')
      void untilLeft()
    })
  },
  'a handler that hijacked and ends its answer' (app, { run }) {
    app.get('/', (_request, reply) => {
      reply.hijack()
      void run().then(() => reply.raw.end('text'))
    })
  },
  'a handler that hijacked and destroys its answer' (app, { run }) {
    app.get('/', (_request, reply) => {
      reply.hijack()
      void run().then(() => reply.raw.destroy())
    })
  },
  'a handler that hijacked and writes its answer in parts' (app, { run }) {
    app.get('/', (_request, reply) => {
      reply.hijack()
      void run().then(() => {
        reply.raw.writeHead(200)
        reply.raw.write('te')
        reply.raw.end('xt')
      })
    })
  },
  'an async handler that hijacked and returned at once' (app, { run }) {
    app.get('/', async (_request, reply) => {
      reply.hijack()
      void run().then(() => reply.raw.end('text'))
    })
  },
  'an async handler that hijacked and never ends its answer' (app, { run }) {
    app.get('/', async (_request, reply) => {
      reply.hijack()
      await run()
    })
  },
  'a hook that hijacked' (app, { run }) {
    app.addHook('onRequest', (_request, reply) => {
      reply.hijack()
      void run().then(() => reply.raw.end('text'))
    })
    app.get('/', async () => 'text')
  }
}

for (const [transport, awaitRegister] of [['HTTP/1.1', true], ['HTTP/1.1', false], ['HTTP/2', true]] as const) {
  const registration = awaitRegister ? '' : ', if register() is not awaited'
  t.test(`no resource closes while code still runs after its client has left, over ${transport}${registration}`, { jobs: Object.keys(rows).length }, async t => {
    await Promise.all(Object.entries(rows).map(([name, routes]) => t.test(name, { buffered: true }, async t => {
      const order: string[] = []
      let leave = (): void => {}
      const leaving = new Promise<void>(resolve => { leave = resolve })
      let leaves = (): void => {}
      const left = new Promise<void>(resolve => { leaves = () => { setImmediate(resolve) } })
      const work: Work = {
        async run () {
          // A turn later, because Fastify has not recorded the promise of this hook yet.
          setImmediate(leave)
          await left
          await sleep(150) // The time is the thing under test: the code outlives the rest of the shutdown.
          order.push('code')
        },
        async untilLeft () {
          leave()
          await left
        }
      }
      const { app } = await serve(t, {
        fastify: { http2: transport === 'HTTP/2' },
        awaitRegister,
        options: { resources: { database: { close () { order.push('database') } } } },
        routes: app => routes(app, work)
      })
      app.server.on(transport === 'HTTP/2' ? 'stream' : 'connection', (closing: EventEmitter) => { closing.once('close', leaves) })
      if (transport === 'HTTP/2') {
        const { session, request } = openSession(app)
        const stream = request({ ':path': '/' }).resume()
        await leaving
        stream.close(http2.constants.NGHTTP2_CANCEL)
        await new Promise(resolve => { session.ping(resolve) })
        session.close()
      } else {
        const client = await connect(app)
        client.send(get('/'))
        await leaving
        abort(client.socket)
      }
      await left
      const report = await app.shutdown.start()
      t.strictSame(order, ['code', 'database'])
      t.match(report, { outcome: 'clean', exitCode: 0 })
      t.ok(report.durationMs < 2_000, `took ${report.durationMs} ms`)
      t.match(app.shutdownState, { activeRequests: 0, activeStreams: 0 })
    })))
  })
}

t.test('hooks and handlers keep their names, their parameters and their errors', async t => {
  const { app } = await serve(t, {
    routes: app => {
      app.addHook('onSend', async function named () {})
      app.addHook('onResponse', async function record () {})
      t.throws(() => app.addHook('onSend', (async (_a: unknown, _b: unknown, _c: unknown, _d: unknown) => {}) as never), { code: 'FST_ERR_HOOK_INVALID_ASYNC_HANDLER' })
      t.throws(() => app.addHook('onRequestAbort', (async () => {}) as never), { code: 'FST_ERR_HOOK_INVALID_ASYNC_HANDLER' })
      t.throws(() => app.get('/aborts', { onRequestAbort: [async () => {}] as never }, async () => 'x'), { code: 'FST_ERR_HOOK_INVALID_ASYNC_HANDLER' })
      t.throws(() => app.addHook('onSend', null as never), { code: 'FST_ERR_HOOK_INVALID_HANDLER' })
      t.throws(() => app.setErrorHandler(null as never), { code: 'FST_ERR_ERROR_HANDLER_NOT_FN' })
      app.get('/', async function show (request) { return request.routeOptions.handler.name })
    }
  })
  for (const name of [/named\(\)/, /record\(\)/]) t.match(app.printRoutes({ includeHooks: true }), name)
  t.equal((await app.inject('/')).body, 'bound show')
})

t.test('a handler that hijacked, wrote nothing and never ends is abandoned after timeouts.requests', async t => {
  const { app } = await serve(t, {
    options: { timeouts: { requests: 300 } },
    routes: app => { app.get('/', (_request, reply) => { reply.hijack() }) }
  })
  const client = await connect(app)
  client.send(get('/'))
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  abort(client.socket)
  await eventually(() => app.shutdownState.stats.aborted === 1, () => app.shutdownState)
  t.match(await app.shutdown.start(), { outcome: 'clean' })
})
