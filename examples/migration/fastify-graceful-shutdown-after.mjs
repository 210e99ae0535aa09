/** The same service with fastify-shutdown instead of fastify-graceful-shutdown. */
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { database, worker } from './service.mjs'

const app = Fastify({ logger: true, return503OnClosing: false })
await app.register(gracefulShutdown, {
  timeouts: { total: 10_000 },
  resources: {
    worker: { dependsOn: ['database'], pause: () => worker.pause() },
    database: { close: () => database.close() }
  }
})
app.get('/orders', () => database.query())
await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
