/**
 * Sequelize 6. `close()` waits until every connection is released, and refuses a query that has not yet requested its
 * connection, so the adapter first waits for the queries and transactions.
 */
import type { Resource } from '../../../types/index'
import { closeOnce, forcedError, ignoreError, trackCalls } from './adapter'
import type { Adapter } from './adapter'
import { destroySockets, socketOf, waitForSocketsToClose, type Socket } from './sockets'
import { hasFields, hasMethods, isObject, property } from './structure'

/** The part of a Sequelize instance that the adapter uses. */
export interface Sequelize {
  close (): Promise<void>
}

/**
 * The pool of sequelize-pool. Its fields are private. Public alternative: none. Without them, a frozen server delays
 * the close, and `force` ends nothing.
 */
interface Pool {
  readonly _inUseObjects?: ReadonlyArray<{ readonly resource: unknown }>
  readonly _availableObjects?: ReadonlyArray<{ readonly resource: unknown }>
  readonly _pendingAcquires?: Array<{ reject (error: Error): void }>
  /** Only with replication. */
  readonly read?: Pool
  readonly write?: Pool
}

/** Recognises a Sequelize instance. */
export const sequelizeAdapter: Adapter<Sequelize> = {
  kind: 'Sequelize',
  matches: client => {
    const manager = hasFields(client, 'options', 'modelManager', 'connectionManager')
      ? property(client, 'connectionManager')
      : undefined
    return isObject(manager) && 'pool' in manager && hasMethods(client, 'query', 'transaction', 'authenticate', 'close')
  },
  adapt: sequelize
}

/** Turns a Sequelize instance into a resource. `force` ends the connections, which rejects each query. */
export function sequelize (instance: Sequelize): Resource {
  const settled = trackCalls(instance, 'query', 'transaction', 'close')
  return closeOnce({
    close: async () => {
      await settled()
      const idle = poolsOf(instance).flatMap(({ _availableObjects }) => socketsOf(_availableObjects))
      const closed = instance.close()
      closed.catch(ignoreError)
      // With a frozen server, `close()` waits for the answer of the server.
      await waitForSocketsToClose(idle)
      await closed
    },
    force: async () => {
      const error = forcedError('The connection of Sequelize')
      const pools = poolsOf(instance)
      instance.close().catch(ignoreError)
      for (const { _pendingAcquires } of pools) for (const each of _pendingAcquires?.splice(0) ?? []) each.reject(error)
      await destroySockets(
        pools.flatMap(pool => [...socketsOf(pool._inUseObjects), ...socketsOf(pool._availableObjects)]), error
      )
    }
  })
}

function poolsOf (instance: Sequelize): Pool[] {
  const { pool } = property(instance, 'connectionManager') as { readonly pool?: Pool }
  return [pool, pool?.read, pool?.write].filter(each => each !== undefined)
}

function socketsOf (connections: Pool['_availableObjects'] = []): (Socket | undefined)[] {
  return connections.map(({ resource }) => socketOf(resource))
}
