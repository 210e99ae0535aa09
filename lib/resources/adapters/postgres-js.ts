/**
 * postgres.js (package `postgres`). Its client is a function. `end()` drops the queries that wait behind the running
 * ones (postgres 3.4, connection.js), and they never settle. So the adapter sends one query on each connection, which
 * the server answers after the queries before it, and ends then. Connections that are closed open for this.
 *
 * The client does not give access to its sockets. With a frozen server they stay half open until the process ends.
 */
import type { Resource } from '../../../types/index'
import { closeOnce } from './adapter'
import type { Adapter } from './adapter'
import { hasFields, hasMethods, isObject, property } from './structure'

/** The part of a postgres.js client that the adapter uses. */
export interface PostgresJs {
  readonly options: { readonly max: number }
  unsafe: (query: string) => PromiseLike<unknown>
  end (options?: { timeout?: number }): Promise<void>
}

/** Longest time of `end()` when no query is left, in seconds. The server only has to close the connections. */
const endTimeout = 0.25

/** Recognises a postgres.js client. A transaction is not one: it has no `end`. */
export const postgresJsAdapter: Adapter<PostgresJs> = {
  kind: 'postgres.js',
  matches: client => typeof client === 'function' && hasFields(client, 'CLOSE', 'END', 'options', 'types') &&
    isObject(property(client, 'options')) && hasMethods(client, 'unsafe', 'begin', 'listen', 'end', 'PostgresError'),
  adapt: postgresJs
}

/** Turns a postgres.js client into a resource: it waits for the queries; `force` rejects them. */
export function postgresJs (sql: PostgresJs): Resource {
  return closeOnce({
    close: async () => {
      // A query is rejected if the server is down, or if the owner has ended the client.
      await Promise.allSettled(Array.from({ length: sql.options.max }, () => sql.unsafe('select 1')))
      await sql.end({ timeout: endTimeout })
    },
    force: () => sql.end({ timeout: 0 })
  })
}
