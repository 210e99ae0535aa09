/**
 * TypeORM's DataSource. `destroy()` releases the query runners that are in use, which ends their queries and rolls back
 * their transactions (typeorm 1, PostgresDriver.js, `closePool`). So the adapter waits until each query runner is
 * released.
 */
import type { Resource } from '../../../types/index'
import { createConditions } from '../../util/conditions'
import { closeOnce, ignoreError, trackCalls, wrapMethod } from './adapter'
import type { Adapter } from './adapter'
import { adoptPool } from './owned-pool'
import { hasMethods, property } from './structure'

/** The part of a DataSource that the adapter uses. */
export interface TypeOrmDataSource {
  readonly isInitialized: boolean
  readonly options: { readonly type: string }
  /** Its pools are documented for no driver. Public alternative: none. Without them, `force` ends nothing. */
  readonly driver: unknown
  destroy (): Promise<void>
}

interface Driver {
  /** PostgreSQL. */
  readonly master?: unknown
  readonly slaves?: readonly unknown[]
  /** MySQL. */
  readonly pool?: unknown
}

/** Recognises a DataSource. TypeORM marks its classes with a symbol of the global registry. */
export const typeOrmAdapter: Adapter<TypeOrmDataSource> = {
  kind: 'TypeORM DataSource',
  matches: client => property(client, '@instanceof') === Symbol.for('DataSource') &&
    hasMethods(client, 'initialize', 'destroy', 'createQueryRunner'),
  adapt: typeOrmDataSource
}

/** Turns a DataSource into a resource: it waits for queries and transactions; `force` ends its connections. */
export function typeOrmDataSource (dataSource: TypeOrmDataSource): Resource {
  const inUse = new Set<object>()
  const known = new WeakSet<object>()
  const conditions = createConditions()
  const initialized = trackCalls(dataSource, 'initialize')
  const ownerHasDestroyed = trackCalls(dataSource, 'destroy')
  let isDestroying = false
  wrapMethod(dataSource, 'createQueryRunner', create => (...args) => addRunner(create(...args) as object))
  wrapMethod(dataSource, 'destroy', destroy => () => { isDestroying = true; return destroy() })

  return closeOnce({
    close: async () => {
      await initialized()
      if (!isDestroying) await conditions.until(() => inUse.size === 0)
      if (!dataSource.isInitialized || isDestroying) return await ownerHasDestroyed()
      poolsOf(dataSource).forEach(adoptPool)
      await dataSource.destroy()
    },
    force: async () => {
      const pools = poolsOf(dataSource).map(adoptPool)
      if (dataSource.isInitialized && !isDestroying) dataSource.destroy().catch(ignoreError)
      await Promise.all(pools.map(pool => pool.force?.()))
    }
  })

  function addRunner (runner: object): object {
    // MongoDB has one runner, which is never released. SQLite has one, which is released after each use.
    if (dataSource.options.type !== 'mongodb') inUse.add(runner)
    if (known.has(runner)) return runner
    known.add(runner)
    wrapMethod(runner, 'release', release => async () => {
      try {
        await release()
      } finally {
        inUse.delete(runner)
        conditions.check()
      }
    })
    return runner
  }
}

function poolsOf ({ driver }: TypeOrmDataSource): unknown[] {
  const { master, slaves = [], pool } = driver as Driver
  return [master, ...slaves, pool]
}
