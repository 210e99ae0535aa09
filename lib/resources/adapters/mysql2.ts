/**
 * mysql2 (MySQL and MariaDB): pools and connections, with callbacks or promises. `pool.end()` rejects queued queries
 * and ends a transaction after the query that runs (mysql2 3, base/pool.js), so the adapter calls it when all
 * connections are released. `destroy()` never calls the callback of the query that runs, so `force` destroys the socket
 * with an error instead.
 */
import type { Resource } from '../../../types/index'
import { closeOnce, forcedError, ignoreError, wrapMethod } from './adapter'
import type { Adapter } from './adapter'
import { destroySockets, waitForSocketsToClose, type Socket } from './sockets'
import { hasFields, hasMethods, isObject, property } from './structure'

/** The part of a mysql2 pool that the adapter uses. */
export interface MysqlPool {
  end: (...args: any[]) => unknown // any: with a callback or with a promise
  getConnection: (...args: any[]) => unknown // any: with a callback or with a promise
}

/** The part of a mysql2 connection that the adapter uses. */
export interface MysqlConnection {
  end: (...args: any[]) => unknown // any: with a callback or with a promise
  query: (...args: any[]) => unknown // any: with a callback or with a promise
}

/** The connection behind one with promises, with parts that mysql2 does not document. */
interface CoreConnection {
  readonly stream?: Socket
  readonly _closing?: boolean
  end (callback: (error?: Error | null) => void): unknown
  on (event: string, listener: () => void): unknown
  once (event: string, listener: () => void): unknown
}

interface List<T> { toArray? (): T[] }

/** The pool behind one with promises, with parts that mysql2 does not document. Without them `close` does not wait. */
interface CorePool {
  readonly _closed?: boolean
  readonly _allConnections?: List<CoreConnection>
  readonly _freeConnections?: List<CoreConnection>
  end (callback: (error?: Error | null) => void): void
  once (event: string, listener: () => void): unknown
}

/** Recognises a mysql2 pool. */
export const mysqlPoolAdapter: Adapter<MysqlPool> = {
  kind: 'mysql2 Pool',
  matches: client => hasMethods(client, 'getConnection', 'query', 'execute', 'end') &&
    isCore(client, 'pool', '_allConnections', '_freeConnections', '_connectionQueue'),
  adapt: mysqlPool
}

/** Recognises a mysql2 connection. */
export const mysqlConnectionAdapter: Adapter<MysqlConnection> = {
  kind: 'mysql2 Connection',
  matches: client => hasMethods(client, 'beginTransaction', 'query', 'execute', 'end') &&
    isCore(client, 'connection', 'stream', '_commands', '_statements'),
  adapt: mysqlConnection
}

/** Returns whether a client with callbacks, or the one behind a client with promises, has these fields. */
function isCore (client: object, behind: string, ...fields: readonly string[]): boolean {
  if (hasFields(client, 'config', ...fields)) return true
  const core = hasFields(client, behind, 'Promise') ? property(client, behind) : undefined
  return isObject(core) && hasFields(core, 'config', ...fields)
}

/**
 * Turns a mysql2 pool into a resource: it waits until every connection is released and no query is queued, then ends
 * the pool.
 */
export function mysqlPool (pool: MysqlPool): Resource {
  const core = (property(pool, 'pool') ?? pool) as CorePool
  const end = trackEnd(core)

  return closeOnce({
    close: async () => {
      for (;;) {
        const busy = connections().filter(
          connection => !(core._freeConnections?.toArray?.() ?? []).includes(connection)
        )
        if (busy.length === 0 || core._closed === true) break
        await poolChanged(busy)
      }
      const sockets = connections().map(connection => connection.stream)
      await end()
      await waitForSocketsToClose(sockets)
    },
    force: async () => {
      const open = connections()
      for (const connection of open) connection.on('error', ignoreError)
      if (core._closed !== true) end().catch(ignoreError) // Rejects the queued queries.
      await destroySockets(open.map(connection => connection.stream), lostConnection())
    }
  })

  function connections (): CoreConnection[] {
    return core._allConnections?.toArray?.() ?? []
  }

  function poolChanged (busy: readonly CoreConnection[]): Promise<void> {
    return new Promise(resolve => {
      core.once('release', resolve)
      core.once('acquire', resolve)
      for (const connection of busy) {
        // The pool's own listener was added first, so the pool has removed the connection when these are called.
        connection.once('end', resolve)
        connection.once('error', resolve)
      }
    })
  }
}

/** Turns a mysql2 connection into a resource. Its `end()` is queued behind its queries. */
export function mysqlConnection (connection: MysqlConnection): Resource {
  const core = (property(connection, 'connection') ?? connection) as CoreConnection
  const end = trackEnd(core)
  return closeOnce({
    close: async () => {
      core.on('error', ignoreError)
      // `end()` fails if the server closes the connection first. The connection is also closed then.
      if (!isClosing()) await end().catch(error => { if (!isClosing()) throw error })
      await waitForSocketsToClose([core.stream])
    },
    force: async () => {
      core.on('error', ignoreError)
      await destroySockets([core.stream], lostConnection())
    }
  })

  function isClosing (): boolean {
    return core._closing === true || core.stream?.destroyed === true
  }
}

/** Replaces `end`, whose second call fails. @returns a function that calls `end`, or waits for the owner's call */
function trackEnd (core: CorePool | CoreConnection): () => Promise<void> {
  let ending: Promise<void> | undefined
  wrapMethod(core, 'end', end => (callback?: (error?: Error | null) => void) => {
    let returned: unknown
    const ended = new Promise<void>((resolve, reject) => {
      returned = end((error?: Error | null) => {
        callback?.(error)
        if (error == null) resolve()
        else reject(error)
      })
    })
    ended.catch(ignoreError)
    ending ??= ended
    return returned
  })
  return async () => {
    const isEndedAlready = property(core, '_closed') === true || property(core, '_closing') === true
    if (ending === undefined && !isEndedAlready) core.end(() => {})
    await ending
  }
}

function lostConnection (): Error {
  return Object.assign(forcedError('The MySQL client'), { code: 'PROTOCOL_CONNECTION_LOST', fatal: true })
}
