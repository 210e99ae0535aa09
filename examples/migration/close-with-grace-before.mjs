/** A service with close-with-grace alone. */
import Fastify from 'fastify'
import closeWithGrace from 'close-with-grace'
import { database } from './service.mjs'

const app = Fastify({ logger: true })
closeWithGrace({ delay: 10_000 }, async ({ err }) => {
  if (err) app.log.error({ err }, 'the service closes because of an error')
  await app.close()
  await database.close()
})
app.get('/orders', () => database.query())
await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
