/**
 * Lesson 21: `app.close()` in tests. With `signals: false` the plugin adds no process listener and never ends the
 * process. In `node --test`, jest, vitest and tap this is the default. The resources close as in production.
 */
import Fastify, { type FastifyInstance } from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import assert from 'node:assert/strict'
import { test } from 'node:test'

const closed: string[] = []

async function build (): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(gracefulShutdown, {
    signals: false,
    resources: { database: { close: () => { closed.push('database') } } }
  })
  app.get('/', async () => ({ hello: 'world' }))
  return app
}

test('the service answers, and closes its database', async () => {
  const listeners = process.listenerCount('SIGTERM')
  const app = await build()
  const response = await app.inject('/')
  assert.deepEqual(response.json(), { hello: 'world' })
  await app.close()
  assert.deepEqual(closed, ['database'])
  assert.equal(app.shutdownState.phase, 'shutdown')
  assert.equal(process.listenerCount('SIGTERM'), listeners)
})
