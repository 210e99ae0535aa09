/**
 * pg's Pool. The adapter works around these properties of `end()` (pg 8, pg-pool 3):
 * - it never settles queued queries, so it is called when the queue is empty;
 * - it waits without limit for a client that is not released, so `force` ends that client and `detail` counts it;
 * - a client that is checked out emits 'error' when its server dies; without a listener this ends the process;
 * - a second call rejects.
 * The adapter records the clients through the pool's events. Create it together with the pool.
 */
import type { Resource } from '../../../types/index'
import { closeOnce, forcedError, ignoreError } from './adapter'
import type { Adapter, AdapterOptions } from './adapter'
import { destroySockets, waitForSocketsToClose, type Socket } from './sockets'
import { hasFields, hasGetters, hasMethods } from './structure'

/** The part of a pg Pool that the adapter uses. */
export interface PgPool {
  readonly totalCount: number
  readonly idleCount: number
  readonly waitingCount: number
  readonly ending: boolean
  readonly ended: boolean
  // These have overloads with a promise and with a callback, which no structural signature covers.
  connect: Function
  end: Function
  on (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
  once (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
}

interface PoolClient {
  /** `null` until the server has accepted the connection. */
  readonly processID?: number | null
  readonly connection?: { readonly stream?: Socket }
  end (): Promise<void>
  on (event: 'error', listener: () => void): unknown
}

type Connected = (error: Error | undefined, client?: PoolClient, release?: () => void) => void

/**
 * Parts that pg-pool does not document, unchanged since version 2. Without them `force` leaves queued queries pending.
 */
interface Internals {
  readonly _clients?: readonly PoolClient[]
  readonly _pendingQueue?: Array<{ callback (error: Error): void }>
}

/** Recognises a pg Pool. */
export const pgPoolAdapter: Adapter<PgPool> = {
  kind: 'pg Pool',
  matches: client => hasFields(client, '_clients', '_idle', '_pendingQueue', 'options') &&
    hasGetters(client, 'totalCount', 'idleCount', 'waitingCount') &&
    hasMethods(client, 'connect', 'query', 'end', 'on'),
  adapt: pgPool
}

/**
 * Turns a pg Pool into a resource: it waits for the running and the queued queries, then ends the pool. `force` ends
 * every connection, which rejects each query. `detail()` is `{ leakedClients }`, and with `options.detail` also
 * `takenBy` (stacks).
 *
 * @example
 * resources: { postgres: pgPool(pool) }
 */
export function pgPool (pool: PgPool, options: AdapterOptions = {}): Resource {
  const open = new Set<PoolClient>()
  const borrowed = new Map<PoolClient, string | undefined>()
  const connect = pool.connect.bind(pool) as (callback: Connected) => void
  const end = pool.end.bind(pool) as () => Promise<void>
  let leaked: Array<string | undefined> = []

  pool.on('connect', addClient)
  pool.on('acquire', (client: PoolClient) => { addClient(client); borrowed.set(client, undefined) })
  pool.on('release', (_error: unknown, client: PoolClient) => { borrowed.delete(client) })
  pool.on('remove', (client: PoolClient) => { open.delete(client); borrowed.delete(client) })
  if (options.detail === true) recordStacks(pool, borrowed)

  return closeOnce({ pause, close, force, detail })

  function addClient (client: PoolClient): void {
    if (open.has(client)) return
    open.add(client)
    // The pool only listens to the errors of idle clients, and still emits these errors.
    client.on('error', ignoreError)
  }

  // A pool has no work to pause. From now on, the process does not end if the database dies.
  function pause (): void {
    pool.on('error', ignoreError)
  }

  async function close (): Promise<void> {
    if (pool.ended) return
    pool.on('error', ignoreError)
    await idle()
    const sockets = socketsOf(open)
    if (pool.ending) await ended()
    else await end()
    await waitForSocketsToClose(sockets)
  }

  /** Waits until no query is queued and no client is borrowed. Code that holds one client may still request another. */
  async function idle (): Promise<void> {
    while (!pool.ending) {
      if (pool.waitingCount > 0) await queueToMove()
      else if (borrowed.size > 0) await nextEvent('release', 'remove')
      else return
    }
  }

  // The pool has no event for its queue. A request at the end of the queue is served after all requests before it.
  function queueToMove (): Promise<void> {
    return new Promise(resolve => connect((_error, _client, release) => { release?.(); resolve() }))
  }

  /** Waits for an `end()` that the owner has called. */
  async function ended (): Promise<void> {
    while (!pool.ended) await nextEvent('remove')
  }

  function nextEvent (...events: readonly string[]): Promise<void> {
    return new Promise(resolve => { for (const event of events) pool.once(event, () => resolve()) })
  }

  async function force (): Promise<void> {
    const error = forcedError('The PostgreSQL pool')
    const { _pendingQueue, _clients = [] }: Internals = pool as Internals
    pool.on('error', ignoreError)
    // First, because the pool would otherwise open new connections for the connections that end below.
    if (!pool.ending) end().catch(ignoreError)
    for (const waiting of _pendingQueue?.splice(0) ?? []) waiting.callback(error)
    const clients = [...new Set([...open, ..._clients])]
    const connecting = clients.filter(client => client.processID === null)
    // A client that is still connecting reports an error to its pool, but not an end.
    const destroying = [destroySockets(socketsOf(connecting), error)]
    const connected = clients.filter(client => client.processID !== null)
    for (const client of connected) client.end().catch(ignoreError)
    destroying.push(destroySockets(socketsOf(connected)))
    await Promise.all(destroying)
    // Each rejected query has released its client. The clients that are still borrowed are leaked.
    leaked = [...borrowed.values()]
  }

  function detail (): Readonly<Record<string, unknown>> {
    return {
      leakedClients: leaked.length, ...(options.detail === true && leaked.length > 0 ? { takenBy: leaked } : {})
    }
  }
}

/**
 * Records the stack of each caller of `connect`, which `query` calls too. The pool's own events come too late to find
 * the caller.
 */
function recordStacks (pool: PgPool, borrowed: Map<PoolClient, string | undefined>): void {
  const connect = pool.connect
  pool.connect = function (callback?: Connected): unknown {
    const taken: { stack?: string } = {}
    Error.captureStackTrace(taken, pool.connect)
    const record = (client: PoolClient | undefined): void => {
      if (client !== undefined && borrowed.has(client)) {
        borrowed.set(client, taken.stack?.replace(/^.*\n/, ''))
      }
    }
    if (callback === undefined) {
      return connect.call(pool).then((client: PoolClient) => { record(client); return client })
    }
    return connect.call(pool, (error: Error | undefined, client?: PoolClient, release?: () => void) => {
      record(client)
      callback(error, client, release)
    })
  }
}

function socketsOf (clients: Iterable<PoolClient>): Array<Socket | undefined> {
  return [...clients].map(client => client.connection?.stream)
}
