/** A service with lightship, whose health routes have a server and a port of their own. */
import Fastify from 'fastify'
import { createLightship } from 'lightship'
import { database } from './service.mjs'

const app = Fastify({ logger: true })
const lightship = await createLightship({ shutdownDelay: 1_000, gracefulShutdownTimeout: 30_000 })
lightship.registerShutdownHandler(async () => {
  await app.close()
  await database.close()
})
app.get('/orders', () => database.query())
await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
lightship.signalReady()
