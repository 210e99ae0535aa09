/**
 * BullMQ: the worker, and what has no jobs of its own (Queue, QueueEvents, FlowProducer), on Redis and on PostgreSQL.
 *
 * `worker.close()` waits for the running jobs; `close(true)` after it returns the same promise and forces nothing, and
 * with a dead Redis neither settles (BullMQ 6, worker.js). So `force` goes below it: running jobs are handed back to the
 * queue while their lock is still ours, so that another worker takes them at once and not when they count as stalled;
 * then the connections are cut, and only then the jobs' signals are aborted, or their rejection would count as a failure.
 *
 * What is promised is what BullMQ promises: each job at least once. A job that was handed back, or whose lock ran out,
 * runs a second time; its first run is told so by its signal.
 */
import type { Resource } from '../../../types/index'
import { field, has, ignore, once, watch } from './adapter'
import type { Adapter, Socket } from './adapter'
import { within } from '../../util/time'

export interface BullMQWorker {
  pause (doNotWaitActive?: boolean): Promise<void>
  close (force?: boolean): Promise<void>
  isRunning (): boolean
}

export interface BullMQQueue {
  close (): Promise<void>
}

interface Connection {
  disconnect? (): unknown
  readonly stream?: Socket | null
}

interface PostgresClient {
  end (): Promise<void>
  readonly connection?: { readonly stream?: Socket }
}

interface Backend {
  close? (force?: boolean): Promise<void>
  disconnectBlocking? (wait?: boolean): Promise<void>
  moveJobFromActiveToWait? (id: string, token: string): Promise<unknown>
  /** Redis: promises that stay pending until the first connection. */
  readonly client?: Promise<Connection>
  readonly blockingClient?: Promise<Connection>
  readonly connection?: {
    readonly pool?: { readonly _clients?: readonly PostgresClient[] }
    readonly ownsPool?: boolean
    readonly listenClient?: PostgresClient
  }
}

/** Parts that BullMQ keeps for itself; where one is missing, jobs wait for their lock to run out instead. */
interface Undocumented {
  readonly opts?: { readonly connection?: unknown }
  readonly lockManager?: { readonly trackedJobs?: ReadonlyMap<string, { readonly token: string }>, close? (): Promise<void> }
  readonly childPool?: { clean? (): Promise<void> }
  getBackend? (): Backend
  cancelAllJobs? (reason?: string): void
  stalledCheckStopper? (): void
  on? (event: 'error', listener: () => void): unknown
}

/** How long the queue may take to take its jobs back, in milliseconds: a frozen server must not cost more. */
const handingBack = 100

export const bullmqWorkerAdapter: Adapter<BullMQWorker> = {
  kind: 'BullMQ Worker',
  matches: client => has(client, 'pause', 'resume', 'close', 'isRunning', 'isPaused') && 'opts' in client,
  adapt: bullmqWorker
}

export const bullmqQueueAdapter: Adapter<BullMQQueue> = {
  kind: 'BullMQ Queue, QueueEvents or FlowProducer',
  matches: client => has(client, 'close') && 'opts' in client && (has(client, 'getBackend') || has(client, 'addBulk')) && !has(client, 'isRunning'),
  adapt: bullmqQueue
}

/**
 * A BullMQ worker as a resource: `pause` takes no more jobs, `close` waits for the running ones, `force` gives them back.
 * A fetch that was already waiting when it was paused may still bring one job. `detail()` is `{ jobsReturned, jobsLeft }`:
 * those left stay locked until they count as stalled (`lockDuration`, 30 s by default) and are then done by another worker.
 */
export function bullmqWorker (worker: BullMQWorker): Resource {
  const inside = worker as Undocumented
  let jobsReturned = 0
  let jobsLeft = 0

  return once({
    pause: () => worker.pause(true),
    close: () => worker.close(),
    force: async () => {
      inside.on?.('error', ignore)
      const backend = inside.getBackend?.()
      const jobs = [...inside.lockManager?.trackedJobs ?? []]
      await within(handingBack, () => Promise.all(jobs.map(async ([id, { token }]) => {
        // Refused for a job that is over, and for one that has been taken over by another worker.
        await backend?.moveJobFromActiveToWait?.(id, token).then(() => { jobsReturned++ }, ignore)
      })))
      jobsLeft = jobs.length - jobsReturned
      const cutting = cutBackend(inside, backend)
      inside.cancelAllJobs?.('The worker was closed by force')
      // Ends the timers that renew locks and look for stalled jobs: nobody else does while `close()` waits for a job.
      inside.lockManager?.close?.().catch(ignore)
      inside.stalledCheckStopper?.()
      inside.childPool?.clean?.().catch(ignore)
      worker.close(true).catch(ignore)
      await cutting
    },
    detail: () => ({ jobsReturned, jobsLeft })
  })
}

/**
 * A BullMQ Queue, QueueEvents or FlowProducer as a resource: waits for the jobs that are being added, which on PostgreSQL
 * would otherwise neither be added nor refused (postgres-queue-backend.js, `run`); forced, cuts its connections.
 */
export function bullmqQueue (queue: BullMQQueue): Resource {
  const inside = queue as Undocumented
  const added = watch(queue, 'add', 'addBulk')
  return once({
    close: async () => {
      await added()
      await queue.close()
    },
    force: async () => {
      inside.on?.('error', ignore)
      // First, so that it knows: queue events whose backend is gone would ask it again without end, and without a pause.
      queue.close().catch(ignore)
      await cutBackend(inside, inside.getBackend?.() ?? (field(queue, 'backend') as Backend | undefined))
    }
  })
}

/** Own connections only: one that the user handed over is closed by its own resource. */
async function cutBackend (inside: Undocumented, backend: Backend | undefined): Promise<void> {
  if (backend === undefined) return
  const shared = inside.opts?.connection as Connection | undefined
  const connections = await Promise.all([ready(backend.client), ready(backend.blockingClient)])
  const postgres = backend.connection
  // Interrupts the blocking fetch, and marks the backend as closing, after which a job that ends writes no more.
  backend.disconnectBlocking?.(false).catch(ignore)
  backend.close?.(true).catch(ignore)
  for (const connection of connections) {
    if (connection === undefined || connection === shared || (connection.stream != null && connection.stream === shared?.stream)) continue
    connection.disconnect?.()
    connection.stream?.destroy()
  }
  const clients = [...(postgres?.ownsPool === true ? postgres.pool?._clients ?? [] : []), postgres?.listenClient]
  for (const client of clients) {
    client?.end().catch(ignore)
    client?.connection?.stream?.destroy()
  }
}

/** What a promise has come to already, without waiting for one that may never. */
async function ready<T> (promise: Promise<T> | undefined): Promise<T | undefined> {
  promise?.catch(ignore)
  return await Promise.race([promise, Promise.resolve(undefined)]).catch(() => undefined)
}
