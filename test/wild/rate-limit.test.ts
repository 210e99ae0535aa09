/** @fastify/rate-limit: its 429 and the 503 of a shutdown do not disturb each other. */
import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { connect, fetchOnce, get } from '../helpers/client'
import { entered, rejected, serveHeld } from '../helpers/serve'

const limited = async (app: FastifyInstance): Promise<void> => {
  await app.register(rateLimit, { max: 2, timeWindow: 60_000, allowList: request => request.url === '/hold' })
}
const routes = (app: FastifyInstance): void => {
  app.get('/', async () => 'text')
  app.get('/exempt', { config: { shutdown: { exempt: true }, rateLimit: { max: 2, timeWindow: 60_000 } } }, async () => 'exempt')
}

for (const [place, setup] of Object.entries({
  'before the plugin': { before: limited, routes },
  'after the plugin': {
    routes: async (app: FastifyInstance) => {
      await limited(app)
      routes(app)
    }
  }
})) {
  t.test(`registered ${place}: 429 over the limit, 503 while draining, and 429 for an exempt route`, async t => {
    const { app, holder, release, report } = await serveHeld(t, setup)
    for (const status of [200, 200, 429]) t.equal((await fetchOnce(app, get('/'))).status, status)
    void app.shutdown.start()
    await entered(app, 'draining')
    // Its hook is one of the route, and runs after the hook of this plugin.
    t.match(await fetchOnce(app, get('/')), rejected)
    t.match(await fetchOnce(app, get('/nowhere')), rejected)
    t.match(await fetchOnce(app, get('/exempt')), { status: 200, headers: { 'x-ratelimit-remaining': '1', connection: 'close' }, body: 'exempt' })
    t.equal((await fetchOnce(app, get('/exempt'))).status, 200)
    t.match(await fetchOnce(app, get('/exempt')), { status: 429, headers: { 'retry-after': '60', connection: 'close' } })
    release()
    t.match(await holder.answer(), { status: 200, body: 'held' })
    t.match(await report, { outcome: 'clean', exitCode: 0, requests: { rejected: 2, completed: 4, cut: [] } })
  })
}

t.test('a 503 of its errorResponseBuilder has a Retry-After header', async t => {
  const { app, holder, release, report } = await serveHeld(t, {
    routes: async app => {
      await app.register(rateLimit, {
        max: 1,
        timeWindow: 60_000,
        allowList: request => request.url === '/hold',
        addHeaders: { 'retry-after': false },
        errorResponseBuilder: () => Object.assign(new Error('overloaded'), { statusCode: 503 })
      })
      app.get('/exempt', { config: { shutdown: { exempt: true } } }, async () => 'exempt')
    }
  })
  void app.shutdown.start()
  await entered(app, 'draining')
  const client = await connect(app)
  client.send(get('/exempt'))
  t.equal((await client.answer()).status, 200)
  t.match(await fetchOnce(app, get('/exempt')), { status: 503, headers: { 'retry-after': /^\d+$/ }, body: /overloaded/ })
  release()
  t.equal((await holder.answer()).status, 200)
  t.match(await report, { outcome: 'clean', exitCode: 0 })
})
