/** The same service with fastify-shutdown instead of stoppable. */
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { database } from './service.mjs'

const app = Fastify({ logger: true, return503OnClosing: false })
await app.register(gracefulShutdown, {
  signals: ['SIGTERM'],
  timeouts: { requests: 5_000, streams: 5_000 },
  resources: { database: { close: () => database.close() } }
})
app.get('/orders', () => database.query())
await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
