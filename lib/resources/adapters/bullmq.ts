/**
 * BullMQ: the worker, and the clients that run no jobs (Queue, QueueEvents, FlowProducer), on Redis and on PostgreSQL.
 *
 * `worker.close()` waits for the running jobs. A later `close(true)` returns the same promise and forces nothing, and
 * with a dead Redis neither settles (BullMQ 6, worker.js). So `force` uses BullMQ's internals, in this order:
 * 1. It returns the running jobs to the queue while the worker still holds their locks. Another worker takes them at
 *    once, and not when they count as stalled.
 * 2. It destroys the connections.
 * 3. It aborts the jobs' signals. Earlier, the rejection of a job would be counted as a failure.
 *
 * BullMQ runs each job at least once, and so does the adapter. A job that is returned, or whose lock expires, runs a
 * second time; the signal of its first run is aborted.
 */
import type { Resource } from '../../../types/index'
import { within } from '../../util/time'
import { closeOnce, ignoreError, trackCalls } from './adapter'
import type { Adapter } from './adapter'
import type { Socket } from './sockets'
import { hasFields, hasMethods, property } from './structure'

/** The part of a BullMQ worker that the adapter uses. */
export interface BullMQWorker {
  pause (doNotWaitActive?: boolean): Promise<void>
  close (force?: boolean): Promise<void>
  isRunning (): boolean
}

/** The part of a BullMQ queue that the adapter uses. */
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
  /** Redis: promises that are pending until the first connection. */
  readonly client?: Promise<Connection>
  readonly blockingClient?: Promise<Connection>
  readonly connection?: {
    readonly pool?: { readonly _clients?: readonly PostgresClient[] }
    readonly ownsPool?: boolean
    readonly listenClient?: PostgresClient
  }
}

/** Parts that BullMQ does not document. Without them a job of a forced worker waits until its lock expires. */
interface Internals {
  readonly opts?: { readonly connection?: unknown }
  readonly lockManager?: {
    readonly trackedJobs?: ReadonlyMap<string, { readonly token: string }>, close? (): Promise<void>
  }
  readonly childPool?: { clean? (): Promise<void> }
  getBackend? (): Backend
  cancelAllJobs? (reason?: string): void
  stalledCheckStopper? (): void
  on? (event: 'error', listener: () => void): unknown
}

/** Longest time to return the running jobs to the queue, in milliseconds. A frozen server uses all of it. */
const returnTimeout = 100

/** Recognises a BullMQ worker. */
export const bullmqWorkerAdapter: Adapter<BullMQWorker> = {
  kind: 'BullMQ Worker',
  matches: client => hasFields(client, 'opts', 'toKey', 'keys') &&
    hasMethods(client, 'pause', 'resume', 'close', 'isRunning', 'isPaused', 'on'),
  adapt: bullmqWorker
}

/** Recognises a BullMQ Queue, QueueEvents or FlowProducer. */
export const bullmqQueueAdapter: Adapter<BullMQQueue> = {
  kind: 'BullMQ Queue, QueueEvents or FlowProducer',
  matches: client => hasMethods(client, 'close', 'on') && !hasMethods(client, 'isRunning') &&
    (hasFields(client, 'opts', 'toKey', 'keys') ||
      (hasFields(client, 'opts') && hasMethods(client, 'getFlow', 'addBulk', 'disconnect'))),
  adapt: bullmqQueue
}

/**
 * Turns a BullMQ worker into a resource: `pause` takes no more jobs, `close` waits for the running jobs, `force`
 * returns them to the queue. A fetch that is pending at the pause may still take one job. `detail()` is `{
 * jobsReturned, jobsLeft }`: the jobs that are left stay locked until they count as stalled (`lockDuration`, 30 s by
 * default), and another worker runs them then.
 */
export function bullmqWorker (worker: BullMQWorker): Resource {
  const internals = worker as Internals
  let jobsReturned = 0
  let jobsLeft = 0

  return closeOnce({
    pause: () => worker.pause(true),
    close: () => worker.close(),
    force: async () => {
      internals.on?.('error', ignoreError)
      const backend = internals.getBackend?.()
      const jobs = [...internals.lockManager?.trackedJobs ?? []]
      await within(returnTimeout, () => Promise.all(jobs.map(async ([id, { token }]) => {
        // It rejects for a job that is over, or that another worker has taken.
        await backend?.moveJobFromActiveToWait?.(id, token).then(() => { jobsReturned++ }, ignoreError)
      })))
      jobsLeft = jobs.length - jobsReturned
      const destroying = destroyConnections(internals, backend, postgresClientsOf(backend))
      internals.cancelAllJobs?.('The worker was closed by force')
      // Ends the timers that renew locks and search for stalled jobs. `close()` would end them after the running jobs.
      internals.lockManager?.close?.().catch(ignoreError)
      internals.stalledCheckStopper?.()
      internals.childPool?.clean?.().catch(ignoreError)
      worker.close(true).catch(ignoreError)
      await destroying
    },
    detail: () => ({ jobsReturned, jobsLeft })
  })
}

/**
 * Turns a BullMQ Queue, QueueEvents or FlowProducer into a resource: it waits for the jobs that are being added, which
 * on PostgreSQL would otherwise never settle (postgres-queue-backend.js, `run`). `force` destroys its connections.
 */
export function bullmqQueue (queue: BullMQQueue): Resource {
  const internals = queue as Internals
  const jobsAdded = trackCalls(queue, 'add', 'addBulk', 'upsertJobScheduler', 'remove', 'removeJobScheduler')
  return closeOnce({
    close: async () => {
      await jobsAdded()
      await queue.close()
    },
    force: async () => {
      internals.on?.('error', ignoreError)
      const backend = internals.getBackend?.() ?? (property(queue, 'backend') as Backend | undefined)
      // Before `close()`, which removes them from their pool.
      const clients = postgresClientsOf(backend)
      // Before its backend ends, because QueueEvents that are not closing would retry in an endless loop.
      queue.close().catch(ignoreError)
      await destroyConnections(internals, backend, clients)
    }
  })
}

/** Destroys the client's own connections. A connection that the user has passed in is closed by its own resource. */
async function destroyConnections (
  internals: Internals, backend: Backend | undefined, clients: readonly PostgresClient[]
): Promise<void> {
  if (backend === undefined) return
  const shared = internals.opts?.connection as Connection | undefined
  const connections = await Promise.all([valueOf(backend.client), valueOf(backend.blockingClient)])
  // Interrupts the blocking fetch, and marks the backend as closing: a job that ends later writes nothing.
  backend.disconnectBlocking?.(false).catch(ignoreError)
  backend.close?.(true).catch(ignoreError)
  for (const connection of connections) {
    if (connection === undefined ||
      connection === shared ||
      (connection.stream != null && connection.stream === shared?.stream)) {
      continue
    }
    connection.disconnect?.()
    connection.stream?.destroy()
  }
  for (const client of clients) {
    client.end().catch(ignoreError)
    client.connection?.stream?.destroy()
  }
}

function postgresClientsOf (backend: Backend | undefined): PostgresClient[] {
  const { ownsPool, pool, listenClient } = backend?.connection ?? {}
  const clients = ownsPool === true ? [...pool?._clients ?? []] : []
  return listenClient === undefined ? clients : [...clients, listenClient]
}

/**
 * Returns the value of a promise if it is fulfilled, otherwise `undefined`. It does not wait, because the promise may
 * never settle.
 */
async function valueOf<T> (promise: Promise<T> | undefined): Promise<T | undefined> {
  promise?.catch(ignoreError)
  return await Promise.race([promise, Promise.resolve(undefined)]).catch(() => undefined)
}
