/** The same service with fastify-shutdown instead of @mgcrea/fastify-graceful-exit. */
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { database } from './service.mjs'

const app = Fastify({ logger: true, return503OnClosing: false })
await app.register(gracefulShutdown, {
  signals: ['SIGTERM', 'SIGINT', 'SIGUSR2'],
  timeouts: { total: 3_000 },
  resources: { database: { close: () => database.close() } }
})
app.get('/orders', () => database.query())
await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
