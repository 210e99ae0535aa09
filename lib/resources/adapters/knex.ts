/**
 * knex, the query builder, also below Objection. Its client is a function. `destroy()` rejects the queries that wait
 * for a connection (tarn 3, Pool.js), so the adapter calls it when none waits and every connection is released.
 */
import type { Resource } from '../../../types/index'
import { closeOnce, forcedError, ignoreError } from './adapter'
import type { Adapter } from './adapter'
import { destroySockets, socketOf, waitForSocketsToClose, type Socket } from './sockets'
import { hasFields, hasMethods, isObject, property } from './structure'

/** The part of a knex instance that the adapter uses. */
export interface Knex {
  readonly client: any // any: as in knex's own type
  destroy: (...args: any[]) => unknown // any: with a callback or with a promise
}

interface Used { readonly resource: unknown }

/**
 * The pool of tarn, which `knex.client.pool` documents. `used` and `free` are private. Public alternative: none.
 * Without them, `force` ends nothing. A native pool that the user passed to knex has none of these.
 */
interface TarnPool {
  readonly destroyed: boolean
  readonly used: readonly Used[]
  readonly free: readonly Used[]
  numUsed (): number
  numPendingAcquires (): number
  on (event: string, listener: () => void): unknown
  removeListener (event: string, listener: () => void): unknown
}

/** Recognises a knex instance. A transaction is not one: it ends with its own commit. */
export const knexAdapter: Adapter<Knex> = {
  kind: 'knex',
  matches: client => typeof client === 'function' && hasFields(client, 'client', 'context', 'userParams') &&
    hasMethods(client, 'destroy', 'raw', 'transaction') && property(client, 'isTransaction') !== true,
  adapt: knex
}

/**
 * Turns a knex instance into a resource: it waits for its queries; `force` ends the connections, which rejects them.
 */
export function knex (instance: Knex): Resource {
  return closeOnce({
    close: async () => {
      const pool = poolOf(instance)
      if (pool !== undefined) await idle(pool)
      const sockets = socketsOf(pool)
      const destroyed = instance.destroy()
      // With a frozen server, `destroy()` waits for the answer of the server.
      await waitForSocketsToClose(sockets)
      await destroyed
    },
    force: async () => {
      const pool = poolOf(instance)
      const destroyed = Promise.resolve(instance.destroy())
      await destroySockets(socketsOf(pool), forcedError('The connection of knex'))
      destroyed.catch(ignoreError)
    }
  })
}

function poolOf (instance: Knex): TarnPool | undefined {
  const pool: unknown = instance.client.pool
  return isObject(pool) && hasMethods(pool, 'numUsed', 'numPendingAcquires', 'on') ? pool as TarnPool : undefined
}

function socketsOf (pool: TarnPool | undefined): (Socket | undefined)[] {
  return [...pool?.used ?? [], ...pool?.free ?? []].map(({ resource }) => socketOf(resource))
}

/** Waits until every connection is free and no query waits for one. */
async function idle (pool: TarnPool): Promise<void> {
  while (!pool.destroyed && (pool.numUsed() > 0 || pool.numPendingAcquires() > 0)) await poolChanged(pool)
}

function poolChanged (pool: TarnPool): Promise<void> {
  const events = ['release', 'acquireFail', 'destroySuccess', 'poolDestroyRequest']
  return new Promise(resolve => {
    const changed = (): void => {
      for (const event of events) pool.removeListener(event, changed)
      resolve()
    }
    for (const event of events) pool.on(event, changed)
  })
}
