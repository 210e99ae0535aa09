/**
 * Kysely, the query builder. `destroy()` ends the pool of the dialect, and a pg Pool never settles the queries that are
 * queued then. So the adapter waits until no query or transaction holds or requests a connection.
 *
 * Kysely does not give access to its pool, so there is no `force`. Pass the pool itself as `client` to have one.
 */
import type { Resource } from '../../../types/index'
import { closeOnce, trackCalls, wrapMethod } from './adapter'
import type { Adapter, Method } from './adapter'
import { hasGetters, hasMethods, property } from './structure'

/** The part of a Kysely instance that the adapter uses. */
export interface Kysely {
  readonly isTransaction: boolean
  getExecutor (): object
  destroy (): Promise<void>
}

/** Recognises a Kysely instance. A transaction is not one: it ends with its own commit. */
export const kyselyAdapter: Adapter<Kysely> = {
  kind: 'Kysely',
  matches: client => hasGetters(client, 'isTransaction', 'schema', 'introspection', 'dynamic') &&
    hasMethods(client, 'getExecutor', 'selectFrom', 'transaction', 'withoutPlugins', 'destroy') &&
    property(client, 'isTransaction') === false && isInstance(client),
  adapt: kysely
}

/** Returns whether the class of a client is Kysely, or extends it. Its fields are private, but it copies itself. */
function isInstance (client: object): boolean {
  const copy = (property(client, 'withoutPlugins') as Method).call(client) as object
  return client instanceof copy.constructor
}

/** Methods of an executor that return another one for the same pool. */
const derivations = ['withPlugins', 'withPlugin', 'withPluginAtFront', 'withoutPlugins']

/**
 * Turns a Kysely instance into a resource. Create it together with the instance, because it counts queries from then
 * on.
 */
export function kysely (db: Kysely): Resource {
  const settled: Array<() => Promise<void>> = []
  track(db.getExecutor())
  return closeOnce({
    close: async () => {
      await Promise.all(settled.map(each => each()))
      await db.destroy()
    }
  })

  /** The executor is not documented. Public alternative: none. Without its methods, `close` does not wait. */
  function track (executor: object): object {
    settled.push(trackCalls(executor, 'provideConnection'))
    for (const name of derivations) wrapMethod(executor, name, derive => (...args) => track(derive(...args) as object))
    return executor
  }
}
