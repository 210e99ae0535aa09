/**
 * A small shop that can be stopped at any moment. This file joins the parts, and each part is one file. Orders go into
 * PostgreSQL. Redis has the cache and the queue, if it is there.
 */
import fastifySwagger from '@fastify/swagger'
import Fastify, { type FastifyInstance } from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { authRoutes } from './auth'
import { openCache } from './cache'
import type { Config } from './variables'
import { openDatabase } from './database'
import { openKeys } from './keys'
import { loggerOptions } from './logger'
import { startObservability } from './observability'
import { orderRoutes } from './orders'
import { openReceipts } from './receipts'
import { openRedis } from './redis'
import { shippingRoutes } from './shipping'
import { statusPage } from './status-page'
import { streamRoutes } from './streams'
import { workRoutes } from './work'

/**
 * Builds the service. If it fails, everything that it opened is closed.
 *
 * @param shutdown options of the plugin that replace those below
 */
export async function buildService (config: Config, shutdown: gracefulShutdown.Options = {}): Promise<FastifyInstance> {
  // Without Fastify's own 503, every late request gets the plugin's, with hooks and error handler.
  const app = Fastify({ logger: loggerOptions(config), return503OnClosing: false })
  try {
    await assemble(app, config, shutdown)
    return app
  } catch (error) {
    await app.close()
    throw error
  }
}

async function assemble (
  app: FastifyInstance, config: Config, shutdown: gracefulShutdown.Options
): Promise<void> {
  const keys = openKeys(app, config)
  const observability = startObservability(config)

  // Before all other plugins: what is registered later closes earlier, and its requests are counted.
  await app.register(gracefulShutdown, {
    ...config.SHUTDOWN_DELAY !== undefined && { delay: config.SHUTDOWN_DELAY },
    // The routes that deploy/ uses: /health/live, /health/ready, /health/startup. Redis is no check: it may be away.
    probes: { checks: { postgres: () => app.pg.query('select 1') } },
    webSocketMessage: true, // {"type":"close","reason":"server_shutdown"} before the close frame 1001
    // Adopted from @fastify/postgres. The other parts add their clients themselves, and name what they depend on.
    resources: { postgres: { timeout: 5_000 }, ...observability.resources },
    exporters: observability.exporters,
    ...shutdown
  })
  await app.register(fastifySwagger, { openapi: { info: { title: 'fastify-service', version: '1.0.0' } } })
  app.addHook('onSend', async (_request, reply) => {
    reply.header('x-request-duration', `${reply.elapsedTime.toFixed(1)} ms`)
  })

  const database = await openDatabase(app, config)
  const redis = openRedis(app, config)
  const cache = openCache(app, redis, database)
  const receipts = openReceipts(app, config, redis, database)

  observability.addRoutes(app)
  if (config.STATUS_PAGE === 1) await app.register(statusPage)
  app.get('/', async () => ({ hello: 'world' }))
  app.get('/status', async () => app.shutdownState)
  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger())
  await app.register(authRoutes, { config, keys })
  await app.register(orderRoutes, { database, cache, receipts })
  await app.register(shippingRoutes, { config })
  await app.register(streamRoutes)
  await app.register(workRoutes, { database })
}
