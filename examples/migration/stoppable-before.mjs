/** A service with stoppable. */
import Fastify from 'fastify'
import stoppable from 'stoppable'
import { database } from './service.mjs'

const app = Fastify({ logger: true })
stoppable(app.server, 5_000)
process.once('SIGTERM', () => app.server.stop(async () => {
  await app.close()
  await database.close()
}))
app.get('/orders', () => database.query())
await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
