/** A service with @godaddy/terminus. */
import Fastify from 'fastify'
import terminus from '@godaddy/terminus'
import { setTimeout as sleep } from 'node:timers/promises'
import { database } from './service.mjs'

const app = Fastify({ logger: true })
terminus.createTerminus(app.server, {
  signals: ['SIGTERM', 'SIGINT'],
  useExit0: true,
  timeout: 5_000,
  healthChecks: { '/health': () => database.ping() },
  beforeShutdown: () => sleep(1_000), // until the load balancer has noticed
  onSignal: async () => {
    await app.close()
    await database.close()
  }
})
app.get('/orders', () => database.query())
await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
