/** The same service with fastify-shutdown instead of @godaddy/terminus. */
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { database } from './service.mjs'

const app = Fastify({ logger: true, return503OnClosing: false })
await app.register(gracefulShutdown, {
  delay: 1_000, // until the load balancer has noticed
  timeouts: { requests: 5_000 },
  probes: { readiness: '/health', liveness: false, startup: false, checks: { database: () => database.ping() } },
  resources: { database: { close: () => database.close() } }
})
app.get('/orders', () => database.query())
await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
