/** The rules of registration: the plugin warns about earlier plugins whose onClose hooks run after it. */
import cors from '@fastify/cors'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import t, { type Test } from 'tap'
import gracefulShutdown from '../lib/index'
import { earlierHooksOf } from '../lib/earlier-hooks'
import { Fastify } from './helpers/fastify'

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
