/** `inFlight` of the test kit. */
import { channel } from 'node:diagnostics_channel'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { createDeferred } from '../../lib/util/deferred'
import { inFlight, shutDown } from '../../lib/testing'
import { build, entered, serve } from '../helpers/serve'

const notInFlight = (message: RegExp): { code: string, message: RegExp } => ({ code: 'FST_ERR_SHUTDOWN_TEST', message })

t.test('it resolves when the handler runs, and not while a hook runs', async t => {
  const hook = createDeferred<void>()
  const gate = createDeferred<void>()
  const steps: string[] = []
  const { app } = await build(t, {
    routes: app => {
      app.get('/', { preHandler: async () => { await hook.promise } }, async () => {
        steps.push('handler')
        await gate.promise
        return 'held'
      })
    }
  })
  const begun = inFlight(app, '/').then(request => {
    steps.push('in flight')
    return request
  })
  await sleep(50)
  t.strictSame(steps, [])
  hook.resolve()
  const { response } = await begun
  t.strictSame(steps, ['handler', 'in flight'])
  t.equal(app.shutdownState.activeRequests, 1)
  const report = shutDown(app)
  gate.resolve()
  t.match(await response, { statusCode: 200, payload: 'held' })
  t.match(await report, { outcome: 'clean', requests: { completed: 1 } })
})

t.test('it takes the options of inject, and boots the app', async t => {
  const { app } = await build(t, { routes: app => { app.post('/orders', async request => ({ got: request.body, q: request.query })) } })
  const { response } = await inFlight(app, { method: 'POST', url: '/orders', query: { a: '1' }, payload: { b: 2 } })
  t.strictSame((await response).json(), { got: { b: 2 }, q: { a: '1' } })
})

t.test('each of many requests waits for its own handler', async t => {
  const gate = createDeferred<void>()
  const { app } = await build(t, {
    routes: app => {
      app.addHook('preHandler', async request => { if (request.url === '/held-in-hook') await gate.promise })
      app.get('/:name', async request => {
        await gate.promise
        return request.url
      })
    }
  })
  let isResolved = false
  const late = inFlight(app, '/held-in-hook').then(request => {
    isResolved = true
    return request
  })
  const others = await Promise.all(['/a', '/b', '/a'].map(url => inFlight(app, url)))
  t.notOk(isResolved)
  gate.resolve()
  t.strictSame((await Promise.all(others.map(async ({ response }) => (await response).payload))), ['/a', '/b', '/a'])
  t.equal((await (await late).response).payload, '/held-in-hook')
})

t.test('handlers of every kind are in flight', async t => {
  const { app } = await build(t, {
    routes: app => {
      app.get('/sync', () => 'sync')
      app.get('/callback', (_request, reply) => { setImmediate(() => { void reply.send('callback') }) })
      app.get('/hijack', (_request, reply) => {
        reply.hijack()
        setImmediate(() => reply.raw.end('hijack'))
      })
      app.get('/rejects', async () => { throw new Error('boom') })
    }
  })
  for (const [url, status, payload] of [['/sync', 200, 'sync'], ['/callback', 200, 'callback'], ['/hijack', 200, 'hijack'], ['/rejects', 500, /boom/]] as const) {
    const { response } = await inFlight(app, url)
    t.match(await response, { statusCode: status, payload }, url)
  }
})

t.test('a request that is answered without its handler is a clear error', async t => {
  const { app } = await build(t, {
    routes: app => {
      app.get('/hook', { onRequest: async (_request, reply) => reply.code(401).send('who are you?') }, async () => 'never')
      app.get('/pre-handler', { preHandler: async () => { throw Object.assign(new Error('not you'), { statusCode: 403 }) } }, async () => 'never')
      app.get('/throws', () => { throw new Error('boom') })
      app.get('/throws-undefined', () => { throw undefined }) // eslint-disable-line no-throw-literal
      app.post('/schema', { schema: { body: { type: 'object', required: ['name'] } } }, async () => 'never')
    }
  })
  await t.rejects(inFlight(app, '/none'), notInFlight(/^GET \/none is not in flight: it was answered with 404 without its handler/))
  await t.rejects(inFlight(app, '/hook'), notInFlight(/401 .*who are you\?$/))
  await t.rejects(inFlight(app, '/pre-handler'), notInFlight(/403 .*not you/))
  await t.rejects(inFlight(app, '/throws'), notInFlight(/500 .*handler threw: .*boom/))
  await t.rejects(inFlight(app, '/throws-undefined'), notInFlight(/500/))
  await t.rejects(inFlight(app, { method: 'post', url: '/schema', payload: {} }), notInFlight(/^POST \/schema .*400/))
  await t.rejects(inFlight(app, { url: { pathname: '/none' } }), notInFlight(/^GET \/none/))
  await t.rejects(inFlight(app, { url: '/hook', method: 'NO' as 'GET' }), 'options that inject does not take')
})

t.test('while the app drains, it is the 503, and after its close an error of Fastify', async t => {
  const gate = createDeferred<string>()
  const { app } = await serve(t, { routes: app => { app.get('/', async () => await gate.promise) } })
  await inFlight(app, '/')
  const report = shutDown(app)
  await entered(app, 'draining')
  await t.rejects(inFlight(app, '/'), notInFlight(/answered with 503/))
  gate.resolve('held')
  await report
  await t.rejects(inFlight(app, '/'))
})

t.test('a request that is cut leaves no unhandled rejection', async t => {
  const { app } = await build(t, {
    options: { timeouts: { requests: 50, streams: 50, tasks: 50, resources: 100, total: 1_000 } },
    routes: app => { app.get('/', async () => await new Promise(() => {})) }
  })
  await inFlight(app, '/')
  t.match(await shutDown(app), { outcome: 'forced', requests: { cut: [{ route: '/' }] } })
})

t.test('a hook that never settles is an error after 4 s, also before an own not-found handler', async t => {
  const { app } = await build(t, {
    options: { timeouts: { requests: 50, streams: 50, tasks: 50, resources: 100, total: 1_000 } },
    routes: app => {
      app.get('/', { preHandler: () => {} }, async () => 'never')
      app.setNotFoundHandler(async () => await new Promise(() => {}))
    }
  })
  await Promise.all([
    t.rejects(inFlight(app, '/'), notInFlight(/^GET \/ is not in flight: its handler has not run in 4000 ms/)),
    t.rejects(inFlight(app, '/none'), notInFlight(/4000 ms/))
  ])
  await shutDown(app)
})

t.test('it leaves no subscriber behind', async t => {
  t.equal(channel('tracing:fastify.request.handler:end').hasSubscribers, false)
  t.end()
})
