/**
 * Lesson 12: work that continues after the answer. `task()` runs it and gives it a signal, and `waitUntil()` takes a
 * promise that exists already. Draining waits for both.
 */
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { setTimeout as sleep } from 'node:timers/promises'

async function main (): Promise<void> {
  const app = Fastify()
  await app.register(gracefulShutdown, {
    onReport: ({ tasks }) => { for (const { name, outcome } of tasks) console.log(name, outcome) }
  })
  app.post('/orders', async (_request, reply) => {
    app.shutdown.waitUntil(sendMail(), { name: 'mail' })
    void app.shutdown.task('parcel', async signal => {
      for (let step = 1; step <= 100; step++) {
        if (signal.aborted) return console.log('the parcel continues after the restart') // save the progress here
        await sleep(20)
      }
    })
    process.kill(process.pid, 'SIGTERM')
    return await reply.code(202).send({ accepted: true })
  })
  const address = await app.listen({ port: 0, host: '127.0.0.1' })
  console.log((await fetch(`${address}/orders`, { method: 'POST' })).status)
}

async function sendMail (): Promise<void> {
  await sleep(300)
  console.log('the mail is sent')
}

void main()
