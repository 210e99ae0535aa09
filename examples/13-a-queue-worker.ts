/**
 * Lesson 13: a worker of BullMQ, which has no traffic. It takes no new job from lame-duck on, and the job that runs is
 * finished and acknowledged before its connection closes. It needs Redis: `REDIS_URL`, else a local one.
 */
import { Queue, Worker } from 'bullmq'
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { setTimeout as sleep } from 'node:timers/promises'

const connection = { url: process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379' }
const name = `lesson-13-${process.pid}`

async function main (): Promise<void> {
  const queue = new Queue(name, { connection })
  const worker = new Worker(name, async ({ data }) => {
    process.kill(process.pid, 'SIGTERM')
    await sleep(300)
    console.log('job', data.number, 'is done')
  }, { connection })
  const app = Fastify()
  await app.register(gracefulShutdown, {
    resources: {
      worker: { client: worker, dependsOn: ['clean-up'] },
      'clean-up': { dependsOn: ['queue'], close: cleanUp },
      queue: { client: queue }
    }
  })
  await app.ready()
  await queue.addBulk([1, 2, 3].map(number => ({ name: 'order', data: { number } })))

  async function cleanUp (): Promise<void> {
    console.log('jobs left for the next process:', await queue.getWaitingCount())
    await queue.obliterate()
  }
}

void main()
