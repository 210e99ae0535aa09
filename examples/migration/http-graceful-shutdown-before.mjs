/** A service with http-graceful-shutdown. */
import Fastify from 'fastify'
import gracefulShutdown from 'http-graceful-shutdown'
import { setTimeout as sleep } from 'node:timers/promises'
import { database } from './service.mjs'

const app = Fastify({ logger: true })
gracefulShutdown(app.server, {
  signals: 'SIGINT SIGTERM',
  timeout: 30_000,
  preShutdown: () => sleep(1_000), // until the load balancer has noticed
  onShutdown: async () => {
    await app.close()
    await database.close()
  },
  finally: () => console.log('the service has stopped')
})
app.get('/orders', () => database.query())
await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
