/**
 * mysql2 (MySQL and MariaDB): pools and connections, with callbacks or promises. `pool.end()` refuses what is queued and
 * cuts a transaction short after the query that runs (mysql2 3, base/pool.js), so it is called when all connections are
 * back. `destroy()` forgets the callback of the query that runs, so `force` ends the socket with an error instead.
 */
import type { Resource } from '../../../types/index'
import { cut, field, forcedError, goodbye, has, ignore, once } from './adapter'
import type { Adapter, Socket } from './adapter'

export interface MysqlPool {
  end: (...args: any[]) => unknown // any: with a callback or with a promise
  getConnection: (...args: any[]) => unknown // any: with a callback or with a promise
}

export interface MysqlConnection {
  end: (...args: any[]) => unknown // any: with a callback or with a promise
  query: (...args: any[]) => unknown // any: with a callback or with a promise
}

interface CoreConnection {
  readonly stream?: Socket
  readonly _closing?: boolean
  end (callback: (error?: Error | null) => void): unknown
  on (event: string, listener: () => void): unknown
  once (event: string, listener: () => void): unknown
}

interface List<T> { toArray? (): T[] }

interface CorePool {
  readonly _closed?: boolean
  readonly _allConnections?: List<CoreConnection>
  readonly _freeConnections?: List<CoreConnection>
  end (callback: (error?: Error | null) => void): void
  once (event: string, listener: () => void): unknown
}

export const mysqlPoolAdapter: Adapter<MysqlPool> = {
  kind: 'mysql2 Pool',
  matches: client => has(client, 'getConnection', 'query', 'execute', 'end'),
  adapt: mysqlPool
}

export const mysqlConnectionAdapter: Adapter<MysqlConnection> = {
  kind: 'mysql2 Connection',
  matches: client => has(client, 'beginTransaction', 'query', 'execute', 'end') && !has(client, 'getConnection'),
  adapt: mysqlConnection
}

/** A mysql2 pool as a resource: waits until every connection is back and none is waited for, then ends. */
export function mysqlPool (pool: MysqlPool): Resource {
  // The pool with promises is a coat over the other one.
  const core = (field(pool, 'pool') ?? pool) as CorePool

  return once({
    close: async () => {
      for (;;) {
        const busy = connections().filter(connection => !(core._freeConnections?.toArray?.() ?? []).includes(connection))
        if (busy.length === 0 || core._closed === true) break
        await moved(busy)
      }
      const last = connections().map(connection => connection.stream)
      if (core._closed !== true) await end(core)
      await goodbye(last)
    },
    force: async () => {
      const open = connections()
      for (const connection of open) connection.on('error', ignore)
      if (core._closed !== true) end(core).catch(ignore) // Rejects what is queued.
      await cut(open.map(connection => connection.stream), fatal())
    }
  })

  function connections (): CoreConnection[] {
    return core._allConnections?.toArray?.() ?? []
  }

  function moved (busy: readonly CoreConnection[]): Promise<void> {
    return new Promise(resolve => {
      core.once('release', resolve)
      core.once('acquire', resolve)
      for (const connection of busy) {
        // The pool takes the connection out in its own listener, which was there first.
        connection.once('end', resolve)
        connection.once('error', resolve)
      }
    })
  }
}

/** A mysql2 connection as a resource: its goodbye queues behind its queries. */
export function mysqlConnection (connection: MysqlConnection): Resource {
  const core = (field(connection, 'connection') ?? connection) as CoreConnection
  return once({
    close: async () => {
      core.on('error', ignore)
      // A connection that the server ends meanwhile is closed too.
      if (core._closing !== true && core.stream?.destroyed !== true) await end(core).catch(error => { if (core.stream?.destroyed !== true) throw error })
      await goodbye([core.stream])
    },
    force: async () => {
      core.on('error', ignore)
      await cut([core.stream], fatal())
    }
  })
}

function end (core: CorePool | CoreConnection): Promise<void> {
  return new Promise((resolve, reject) => {
    core.end(error => { if (error == null) resolve(); else reject(error) })
  })
}

function fatal (): Error {
  return Object.assign(forcedError('The MySQL client'), { code: 'PROTOCOL_CONNECTION_LOST', fatal: true })
}
