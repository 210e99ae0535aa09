/**
 * pg's Pool. What it does at its end, and what is done about it here (pg 8, pg-pool 3):
 * - `end()` never settles the queries that wait in its queue: so it is called when the queue is empty;
 * - `end()` waits for ever for a client that nobody gives back: `force` ends it, and `detail` counts it;
 * - a client whose server dies while it is checked out emits an 'error' that nobody listens to, which ends the process;
 * - it rejects when called twice.
 * Clients are known from the pool's own events, from the moment that the adapter is made: make it with the pool.
 */
import type { Resource } from '../../../types/index'
import { cut, forcedError, goodbye, has, ignore, once } from './adapter'
import type { Adapter, AdapterOptions, Socket } from './adapter'

export interface PgPool {
  readonly totalCount: number
  readonly idleCount: number
  readonly waitingCount: number
  readonly ending: boolean
  readonly ended: boolean
  // Overloads (promise and callback) that no structural signature can name: they are called as they came.
  connect: Function
  end: Function
  on (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
  once (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
}

interface PoolClient {
  /** `null` until the server has let it in. */
  readonly processID?: number | null
  readonly connection?: { readonly stream?: Socket }
  end (): Promise<void>
  on (event: 'error', listener: () => void): unknown
}

type Connected = (error: Error | undefined, client?: PoolClient, release?: () => void) => void

/** Parts of pg-pool that are not documented, unchanged since its version 2; nothing breaks where they are missing. */
interface Undocumented {
  readonly _clients?: readonly PoolClient[]
  readonly _pendingQueue?: Array<{ callback (error: Error): void }>
}

export const pgPoolAdapter: Adapter<PgPool> = {
  kind: 'pg Pool',
  matches: client => has(client, 'connect', 'query', 'end', 'on') && 'totalCount' in client && 'idleCount' in client && 'waitingCount' in client,
  adapt: pgPool
}

/**
 * A pg Pool as a resource: waits for what runs and what is queued, then ends. Forced, it ends every connection, so that
 * each query is rejected. `detail()` is `{ leakedClients }`, and `takenBy` (stacks) where `options.detail` is set.
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

  pool.on('connect', meet)
  pool.on('acquire', (client: PoolClient) => { meet(client); borrowed.set(client, undefined) })
  pool.on('release', (_error: unknown, client: PoolClient) => { borrowed.delete(client) })
  pool.on('remove', (client: PoolClient) => { open.delete(client); borrowed.delete(client) })
  if (options.detail === true) rememberStacks(pool, borrowed)

  return once({ pause, close, force, detail })

  function meet (client: PoolClient): void {
    if (open.has(client)) return
    open.add(client)
    // The pool itself listens to idle clients only; its own listener still tells the pool's owner of their errors.
    client.on('error', ignore)
  }

  // Nothing to take in less of; but a database that goes down together with us is no reason to crash from now on.
  function pause (): void {
    pool.on('error', ignore)
  }

  async function close (): Promise<void> {
    if (pool.ended) return
    pool.on('error', ignore)
    await served()
    const last = sockets(open)
    if (pool.ending) await ended()
    else await end()
    await goodbye(last)
  }

  /** Until nothing waits and nobody holds a client: who is at work may still need another one. */
  async function served (): Promise<void> {
    while (!pool.ending) {
      if (pool.waitingCount > 0) await turnInQueue()
      else if (borrowed.size > 0) await next('release', 'remove')
      else return
    }
  }

  // No event tells that the queue moved on: whoever waits in it can be waited for by standing in line behind them.
  function turnInQueue (): Promise<void> {
    return new Promise(resolve => connect((_error, _client, release) => { release?.(); resolve() }))
  }

  /** Someone else has called `end()` already, and has its promise. */
  async function ended (): Promise<void> {
    while (!pool.ended) await next('remove')
  }

  function next (...events: readonly string[]): Promise<void> {
    return new Promise(resolve => { for (const event of events) pool.once(event, () => resolve()) })
  }

  async function force (): Promise<void> {
    const error = forcedError('The PostgreSQL pool')
    const { _pendingQueue, _clients = [] }: Undocumented = pool as Undocumented
    pool.on('error', ignore)
    // First of all, or the slots that become free below would be filled again.
    if (!pool.ending) end().catch(ignore)
    for (const waiting of _pendingQueue?.splice(0) ?? []) waiting.callback(error)
    const clients = [...new Set([...open, ..._clients])]
    const connecting = clients.filter(client => client.processID === null)
    // One that is still connecting tells its pool only of an error, not of an end.
    const cutting = [cut(sockets(connecting), error)]
    const connected = clients.filter(client => client.processID !== null)
    for (const client of connected) client.end().catch(ignore)
    cutting.push(cut(sockets(connected)))
    await Promise.all(cutting)
    // Queries were rejected and gave their clients back. Who still has one will not.
    leaked = [...borrowed.values()]
  }

  function detail (): Readonly<Record<string, unknown>> {
    return { leakedClients: leaked.length, ...(options.detail === true && leaked.length > 0 ? { takenBy: leaked } : {}) }
  }
}

/**
 * The same, for a pool whose owner will call `end()` as well, as @fastify/postgres does in its onClose hook: from now on
 * `pool.end()` is the resource's own close, asked twice and done once, and never a rejection.
 * @returns the resource, and what gives the pool its own `end` back
 */
export function adoptPgPool (pool: PgPool, options: AdapterOptions = {}): { readonly resource: Resource, readonly release: () => void } {
  const resource = pgPool(pool, options)
  const end = pool.end
  const ownsEnd = Object.hasOwn(pool, 'end')
  const never = new AbortController().signal
  pool.end = function (callback?: (error?: Error) => void): Promise<void> | undefined {
    const closing = Promise.resolve(resource.close?.(never))
    if (callback === undefined) return closing
    closing.then(() => callback(), callback)
  }
  return {
    resource,
    release: () => {
      if (ownsEnd) pool.end = end
      else delete (pool as { end?: Function }).end
    }
  }
}

/** `connect` and, through it, `query`: the stack is that of the caller, since a pool hands its clients out later. */
function rememberStacks (pool: PgPool, borrowed: Map<PoolClient, string | undefined>): void {
  const connect = pool.connect
  pool.connect = function (callback?: Connected): unknown {
    const taken: { stack?: string } = {}
    Error.captureStackTrace(taken, pool.connect)
    const remember = (client: PoolClient | undefined): void => { if (client !== undefined && borrowed.has(client)) borrowed.set(client, taken.stack?.replace(/^.*\n/, '')) }
    if (callback === undefined) return connect.call(pool).then((client: PoolClient) => { remember(client); return client })
    return connect.call(pool, (error: Error | undefined, client?: PoolClient, release?: () => void) => { remember(client); callback(error, client, release) })
  }
}

function sockets (clients: Iterable<PoolClient>): Array<Socket | undefined> {
  return [...clients].map(client => client.connection?.stream)
}
