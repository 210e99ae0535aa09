/**
 * Lesson 16: node:cluster. The primary starts the next worker, waits until it listens, and then disconnects the old
 * one. The old worker answers its requests in flight, so the restart loses none.
 */
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import cluster from 'node:cluster'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'

async function worker (): Promise<void> {
  const app = Fastify()
  await app.register(gracefulShutdown)
  app.get('/', async () => {
    process.send!('handler')
    await sleep(300)
    return `worker ${cluster.worker!.id}`
  })
  await app.listen({ port: 0, host: '127.0.0.1' }) // all workers get the same port
}

async function primary (): Promise<void> {
  const old = cluster.fork()
  const [{ port }] = await once(old, 'listening')
  const answer = fetch(`http://127.0.0.1:${port}/`)
  await once(old, 'message')

  const next = cluster.fork()
  await once(next, 'listening')
  old.disconnect()
  console.log('in flight:', await (await answer).text())
  console.log('the old worker ended with code', (await once(old, 'exit'))[0])
  console.log('now:', await (await fetch(`http://127.0.0.1:${port}/`)).text())
  next.disconnect()
}

void (cluster.isPrimary ? primary() : worker())
