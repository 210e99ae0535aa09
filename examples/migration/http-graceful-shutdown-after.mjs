/** The same service with fastify-shutdown instead of http-graceful-shutdown. */
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { database } from './service.mjs'

const app = Fastify({ logger: true, return503OnClosing: false })
await app.register(gracefulShutdown, {
  signals: ['SIGINT', 'SIGTERM'],
  delay: 1_000, // until the load balancer has noticed
  timeouts: { requests: 30_000 },
  resources: { database: { close: () => database.close() } },
  onReport: () => console.log('the service has stopped')
})
app.get('/orders', () => database.query())
await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
