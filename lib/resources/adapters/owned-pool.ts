/**
 * The pool of a library that creates and ends it itself, such as an ORM or a job queue. The library's own `close` is
 * called, and its call of `pool.end()` closes the pool through the adapter of the pool: queued queries finish first,
 * and a frozen server does not delay an idle pool.
 */
import type { Resource } from '../../../types/index'
import { adapterFinder, ignoreError, wrapMethod } from './adapter'
import { mysqlConnectionAdapter, mysqlPoolAdapter } from './mysql2'
import { pgClientAdapter } from './pg-client'
import { pgPoolAdapter } from './pg-pool'
import { postgresJsAdapter } from './postgres-js'
import { isObject } from './structure'

/**
 * Turns a client that another library uses into a resource.
 *
 * @throws FST_ERR_SHUTDOWN_CLIENT if it is not of pg, mysql2 or postgres.js
 */
export const driverFor = adapterFinder([
  pgPoolAdapter, pgClientAdapter, mysqlPoolAdapter, mysqlConnectionAdapter, postgresJsAdapter
])

const none: Pick<Resource, 'force'> = {}

/**
 * Adopts a pool. From then on, `pool.end()` closes it through its adapter, which also waits for queued queries.
 *
 * @param pool a pool of pg or mysql2; for any other value nothing happens
 * @returns `force` of the pool
 */
export function adoptPool (pool: unknown): Pick<Resource, 'force'> {
  if (!isObject(pool) || ![pgPoolAdapter, mysqlPoolAdapter].some(({ matches }) => matches(pool))) return none
  const resource = driverFor(pool)
  let closing: Promise<void> | undefined
  wrapMethod(pool, 'end', end => (callback?: (error?: unknown) => void) => {
    // The adapter calls `end` too.
    if (closing !== undefined) return end(callback)
    closing = Promise.resolve().then(() => resource.close?.(new AbortController().signal))
    if (typeof callback !== 'function') return closing
    closing.then(() => callback(), callback)
    return undefined
  })
  return { force: async () => { closing?.catch(ignoreError); await resource.force?.() } }
}
