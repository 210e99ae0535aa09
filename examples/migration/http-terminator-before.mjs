/** A service with http-terminator. */
import Fastify from 'fastify'
import { createHttpTerminator } from 'http-terminator'
import { database } from './service.mjs'

const app = Fastify({ logger: true })
const terminator = createHttpTerminator({ server: app.server, gracefulTerminationTimeout: 5_000 })
process.once('SIGTERM', async () => {
  await terminator.terminate()
  await app.close()
  await database.close()
})
app.get('/orders', () => database.query())
await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
