/** Drizzle. It has no `close`: its public `$client` is the client of the driver, which is closed in its place. */
import type { Adapter } from './adapter'
import { driverFor } from './owned-pool'
import type { AdapterOptions } from './adapter'
import type { Resource } from '../../../types/index'
import { hasFields, hasMethods, isObject, property } from './structure'

/** The part of a Drizzle database that the adapter uses. */
export interface DrizzleDatabase {
  readonly $client: unknown
}

/** Recognises a Drizzle database with a client of pg, mysql2 or postgres.js. */
export const drizzleAdapter: Adapter<DrizzleDatabase> = {
  kind: 'Drizzle database',
  matches: client => hasFields(client, 'dialect', 'session', '_', '$client') &&
    isObject(property(client, '$client')) && hasMethods(client, 'select', 'insert', 'transaction', 'execute'),
  adapt: drizzle
}

/**
 * Turns a Drizzle database into a resource.
 *
 * @throws FST_ERR_SHUTDOWN_CLIENT if its client is not of pg, mysql2 or postgres.js
 */
export function drizzle (database: DrizzleDatabase, options?: AdapterOptions): Resource {
  return driverFor(database.$client as object, options)
}
