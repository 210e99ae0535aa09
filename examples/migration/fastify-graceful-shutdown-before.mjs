/** A service with fastify-graceful-shutdown. */
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-graceful-shutdown'
import { database, worker } from './service.mjs'

const app = Fastify({ logger: true })
await app.register(gracefulShutdown, { timeout: 10_000 })
app.gracefulShutdown(() => worker.pause()) // runs first, while requests are in flight
app.addHook('onClose', () => database.close())
app.get('/orders', () => database.query())
await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
