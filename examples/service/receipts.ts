/**
 * Receipts, as jobs of BullMQ on Redis. A job runs at least once, so it must be safe to run twice. Without Redis, the
 * work runs in this process, and the drain waits for it.
 */
import createError from '@fastify/error'
import { Queue, Worker } from 'bullmq'
import type { FastifyInstance } from 'fastify'
import type { Redis } from 'ioredis'
import type { Config } from './variables'
import type { Database } from './database'

export interface Receipts {
  /**
   * Adds a job. When it resolves, the job is safe in the queue.
   *
   * @throws QUEUE_AWAY (503 with Retry-After) if Redis does not answer
   */
  add(orderId: string): Promise<void>
}

const QueueAwayError = createError('QUEUE_AWAY', 'The queue is away', 503)
const name = 'receipts'

/** Opens the queue and its worker. Both close before the clients that they use. */
export function openReceipts (
  app: FastifyInstance, { REDIS_URL }: Config, redis: Redis | undefined, database: Database
): Receipts {
  const write = async (orderId: string): Promise<void> => {
    await database.query('insert into receipts (order_id) values ($1) on conflict do nothing', [orderId])
  }
  if (redis === undefined || REDIS_URL === undefined) {
    return { add: async orderId => { void app.shutdown.task('receipt', () => write(orderId)) } }
  }

  const queue = new Queue<string>(name, {
    connection: redis,
    defaultJobOptions: {
      attempts: 5,
      backoff: { type: 'exponential', delay: 1_000, jitter: 0.5 },
      removeOnComplete: { age: 3_600, count: 1_000 },
      removeOnFail: { age: 7 * 24 * 3_600 }
    }
  })
  // The worker waits for jobs without limit, on connections of its own. BullMQ requires `null` for this.
  const connection = { url: REDIS_URL, connectTimeout: 2_000, maxRetriesPerRequest: null }
  const worker = new Worker<string>(name, job => write(job.data), { connection, concurrency: 5 })

  // Each attempt to reconnect emits an error, of which `redis.ts` has logged the first. The listeners must exist.
  const onError = ({ message }: Error): void => app.log.debug(`the queue is away: ${message}`)
  queue.on('error', onError)
  worker.on('error', onError)
  worker.on('failed', (job, { message }) => app.log.error(`the receipt ${job?.data} has failed: ${message}`))

  app.shutdown.resource('receipts', { client: worker, dependsOn: ['postgres', 'redis'], timeout: 5_000 })
  app.shutdown.resource('receipt queue', { client: queue, dependsOn: ['redis'], timeout: 3_000 })

  return {
    async add (orderId) {
      // A second request for the same receipt finds the job by its id.
      await queue.add('write', orderId, { jobId: `receipt-${orderId}` }).catch((error: Error) => {
        app.log.warn(`the queue is away: ${error.message}`)
        throw Object.assign(new QueueAwayError(), { headers: { 'retry-after': '1' } })
      })
    }
  }
}
