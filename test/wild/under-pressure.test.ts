/** @fastify/under-pressure: its own 503s carry Retry-After while draining, and its status route is rejected or exempt. */
import underPressure from '@fastify/under-pressure'
import t from 'tap'
import { eventually, fetchOnce, get } from '../helpers/client'
import { entered, rejected, serveHeld } from '../helpers/serve'

t.test('a server under pressure answers the request in flight, and each 503 has a Retry-After header', async t => {
  const { app, holder, release, report } = await serveHeld(t, {
    before: async app => {
      // Any process has more than one byte of heap. The request that holds the drain open arrives before.
      await app.register(underPressure, { maxHeapUsedBytes: 1, sampleInterval: 10, retryAfter: 50, pressureHandler: (request, reply) => { if (request.url === '/pressed') reply.code(503).send('pressed') } })
    }
  })
  await eventually(() => app.memoryUsage().heapUsed > 0, () => app.memoryUsage())
  void app.shutdown.start()
  await entered(app, 'draining')
  t.match(await fetchOnce(app, get('/pressed')), { status: 503, headers: { 'retry-after': '10', connection: 'close' }, body: 'pressed' })
  t.match(await fetchOnce(app, get('/')), rejected)
  release()
  t.match(await holder.answer(), { status: 200, body: 'held' })
  t.match(await report, { outcome: 'clean', exitCode: 0, requests: { completed: 2, rejected: 1 } })
})

t.test('its default answer keeps its own Retry-After', async t => {
  let pressed = false
  const { app, release, report } = await serveHeld(t, {
    before: async app => { await app.register(underPressure, { healthCheck: async () => !pressed, healthCheckInterval: 10, retryAfter: 50 }) }
  })
  void app.shutdown.start()
  await entered(app, 'draining')
  pressed = true
  await new Promise(resolve => { setTimeout(resolve, 50) })
  t.match(await fetchOnce(app, get('/')), { status: 503, headers: { 'retry-after': '50', connection: 'close' }, body: /FST_UNDER_PRESSURE/ })
  release()
  t.match(await report, { outcome: 'clean', exitCode: 0 })
})

t.test('its status route is served while draining if it is exempt', async t => {
  const { app, release, report } = await serveHeld(t, {
    routes: async app => {
      await app.register(underPressure, { exposeStatusRoute: { url: '/status', routeOpts: { config: { shutdown: { exempt: true } } } as never } })
      await app.register(async child => { await child.register(underPressure, { exposeStatusRoute: '/other' }) })
    }
  })
  void app.shutdown.start()
  await entered(app, 'draining')
  t.match(await fetchOnce(app, get('/status')), { status: 200, body: /ok/ })
  t.match(await fetchOnce(app, get('/other')), rejected)
  release()
  t.match(await report, { outcome: 'clean', exitCode: 0, requests: { rejected: 1 } })
})
