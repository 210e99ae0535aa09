/** The replica that goes. One request keeps it draining, so that the clients can meet its 503. */
import Fastify from 'fastify'
import { setTimeout as sleep } from 'node:timers/promises'
import gracefulShutdown from '../../dist/lib/index.js'

const retryAfter = (process.env.RETRY_AFTER ?? '10').split('-').map(Number)
const app = Fastify({ return503OnClosing: false })
await app.register(gracefulShutdown, {
  // A number, or a range.
  delay: JSON.parse(process.env.DELAY_MS),
  retryAfter: retryAfter.length === 1 ? retryAfter[0] : retryAfter
})
app.get('/', async () => 'ok')
app.get('/hold', async request => { await sleep(Number(request.query.ms)) })
// As many as are allowed to wait: the clients all come back at once.
await app.listen({ port: 0, host: '127.0.0.1', backlog: 4_096 })
process.send({ port: app.server.address().port })
