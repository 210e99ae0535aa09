/** A service with @mgcrea/fastify-graceful-exit. */
import Fastify from 'fastify'
import gracefulExit from '@mgcrea/fastify-graceful-exit'
import { database } from './service.mjs'

const app = Fastify({ logger: true })
await app.register(gracefulExit, { timeout: 3_000 })
app.addHook('onClose', () => database.close())
app.get('/orders', () => database.query())
await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
