/**
 * Lesson 7: the 503 in your own format. A request that arrives while draining gets it, with a Retry-After between 5 and
 * 15 seconds, so that the clients do not all return at the same time.
 */
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { setTimeout as sleep } from 'node:timers/promises'

async function main (): Promise<void> {
  const app = Fastify({ return503OnClosing: false })
  await app.register(gracefulShutdown, {
    delay: 0, // no load balancer: draining begins at once
    retryAfter: [5, 15],
    errorResponseBuilder: (_request, { phase }) => ({ title: 'The shop restarts', phase })
  })
  app.get('/slow', async () => {
    process.kill(process.pid, 'SIGTERM')
    await sleep(300)
    return 'slow'
  })
  const address = await app.listen({ port: 0, host: '127.0.0.1' })

  const slow = fetch(`${address}/slow`)
  await new Promise<void>(resolve => { app.shutdown.on('draining', () => resolve()) })
  const late = await fetch(`${address}/`)
  console.log(late.status, await late.text())
  console.log('retry after', Number(late.headers.get('retry-after')) >= 5)
  console.log('in flight:', (await slow).status)
}

void main()
