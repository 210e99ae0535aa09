/**
 * Lesson 1: the first lines. The plugin is registered before all others. A request that is in flight at SIGTERM gets
 * its answer, and the answer carries `Connection: close`.
 */
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { setTimeout as sleep } from 'node:timers/promises'

async function main (): Promise<void> {
  const app = Fastify({ return503OnClosing: false })
  await app.register(gracefulShutdown)
  app.get('/slow', async () => {
    process.kill(process.pid, 'SIGTERM') // as an orchestrator does, in the middle of a request
    await sleep(300)
    return { finished: true }
  })
  app.get('/status', async () => app.shutdownState)
  const address = await app.listen({ port: 0, host: '127.0.0.1' })

  const response = await fetch(`${address}/slow`)
  console.log(response.status, response.headers.get('connection'), await response.text())
}

void main()
