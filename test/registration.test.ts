/** The rules of registration: anywhere, once, and a warning about earlier plugins whose onClose hooks run last. */
import cors from '@fastify/cors'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import t, { type Test } from 'tap'
import gracefulShutdown from '../lib/index'
import { earlierHooksOf } from '../lib/earlier-hooks'
import { createDeferred } from '../lib/util/deferred'
import { connect, eventually, fetchOnce, get } from './helpers/client'
import { Fastify } from './helpers/fastify'
import { rejected } from './helpers/serve'

const closes = (name: string) => fp(async app => { app.addHook('onClose', async () => {}) }, { name })

/** Boots an app. @returns the warnings of the plugin */
async function warningsOf (t: Test, register: (app: FastifyInstance, ours: (app: FastifyInstance) => Promise<void>) => Promise<void>): Promise<readonly string[]> {
  const app = Fastify()
  t.teardown(() => app.close())
  let warnings: readonly string[] | undefined
  await register(app, async app => {
    await app.register(gracefulShutdown, {
      signals: false,
      exporters: [{ name: 'test', start: ({ listen }) => listen(event => { if (event.type === 'platform') warnings = event.warnings }) }]
    })
  })
  await app.ready()
  return warnings!.filter(warning => warning.startsWith('registered before'))
}

t.test('a plugin without an onClose hook may be registered first', async t => {
  t.strictSame(await warningsOf(t, async (app, ours) => {
    await app.register(cors)
    await app.register(fp(async app => {
      app.decorate('own', 1)
      app.addHook('onRequest', async () => {})
    }, { name: 'decorates' }))
    app.addHook('onClose', async () => {})
    await ours(app)
    await app.register(closes('later'))
  }), [])
})

t.test('the warning names each plugin with an onClose hook that is registered first, and no other', async t => {
  const [warning, ...rest] = await warningsOf(t, async (app, ours) => {
    await app.register(cors)
    void app.register(closes('database'))
    await app.register(async function context (app) { app.addHook('onClose', async () => {}) })
    await ours(app)
  })
  t.match(warning, /^registered before fastify-shutdown: database, context\. Their onClose hooks run last/)
  t.strictSame(rest, [])
})

t.test('there is no warning about the plugins that register this one', async t => {
  t.strictSame(await warningsOf(t, async (app, ours) => {
    await app.register(fp(async app => {
      app.addHook('onClose', async () => {})
      await app.register(fp(async app => {
        app.addHook('onClose', async () => {})
        await ours(app)
      }, { name: 'inner service' }))
    }, { name: 'service' }))
  }), [])
})

t.test('nothing is known about the plugins of an instance that was created before this package was loaded', t => {
  t.strictSame(earlierHooksOf({} as FastifyInstance), [])
  t.end()
})

t.test('in an encapsulated context the plugin works for the whole server', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.get('/early', async () => 'early')
  void app.register(async function sibling (child) { child.get('/sibling', async () => 'sibling') })
  void app.register(async function main (child) {
    void child.register(fp(async function loader (loader) {
      await loader.register(gracefulShutdown, { signals: false, probes: true, newConnections: 'answer', categories: { slow: 1_000 } })
    }))
    void child.register(async function routes (inner) {
      inner.get('/', { config: { shutdown: { category: 'slow' } } }, async request => [inner.shutdownState.phase, request.shutdownSignal instanceof AbortSignal])
      inner.get('/exempt', { config: { shutdown: { exempt: true } } }, async () => inner.shutdownState.phase)
      inner.get('/hold', async () => {
        await gate.promise
        return 'held'
      })
    })
  })
  const gate = createDeferred<void>()
  await app.listen({ port: 0, host: '127.0.0.1' })
  t.equal((await fetchOnce(app, get('/'))).body, '["running",true]')
  t.equal((await fetchOnce(app, get('/health/ready'))).status, 200)
  const held = await connect(app)
  held.send(get('/hold'))
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const report = app.shutdown.start()
  for (const path of ['/early', '/sibling', '/', '/nowhere']) t.match(await fetchOnce(app, get(path)), rejected, path)
  t.equal((await fetchOnce(app, get('/exempt'))).body, 'draining')
  gate.resolve()
  t.equal((await held.answer()).body, 'held')
  t.match(await report, { outcome: 'clean', requests: { rejected: 4 } })
})

t.test('a route in an encapsulated context is checked', async t => {
  const app = Fastify()
  void app.register(async child => {
    await child.register(gracefulShutdown, { signals: false })
    child.get('/', { config: { shutdown: { category: 'slow' } } }, async () => 'ok')
  })
  await t.rejects(async () => await app.ready(), { code: 'FST_ERR_SHUTDOWN_OPTION', message: /'config.shutdown.category' of route '\/'/ })
})

t.test('a second registration is refused, in any context', async t => {
  for (const [first, second] of [['root', 'root'], ['root', 'child'], ['child', 'root'], ['child', 'child']] as const) {
    const app = Fastify()
    for (const where of [first, second]) {
      if (where === 'root') void app.register(gracefulShutdown, { signals: false })
      else void app.register(async child => { await child.register(gracefulShutdown, { signals: false }) })
    }
    await t.rejects(async () => await app.ready(), { code: 'FST_ERR_SHUTDOWN_REGISTRATION' }, `${first}, ${second}`)
  }
})
