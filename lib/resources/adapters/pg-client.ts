/**
 * A single pg Client, outside of a pool: one for LISTEN, say. `end()` with a query under way destroys the connection
 * (pg 8.23, lib/client.js), so it is called when the queue is empty and no transaction is open.
 */
import type { Resource } from '../../../types/index'
import { cut, goodbye, has, ignore, once } from './adapter'
import type { Adapter, Socket } from './adapter'

export interface PgClient {
  end (): Promise<void>
  on (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
  once (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
}

/** Parts of a client that are not documented, or are so only lately; nothing breaks where they are missing. */
interface Undocumented {
  readonly processID?: number | null
  readonly connection?: { readonly stream?: Socket }
  readonly _ended?: boolean
  readonly _ending?: boolean
  readonly _activeQuery?: unknown
  readonly _queryQueue?: readonly unknown[]
  readonly _sentQueryQueue?: readonly unknown[]
  getTransactionStatus? (): string | null
}

export const pgClientAdapter: Adapter<PgClient> = {
  kind: 'pg Client',
  matches: client => has(client, 'connect', 'query', 'end', 'escapeIdentifier') && !('totalCount' in client),
  adapt: pgClient
}

/** A pg Client as a resource: waits for its queries and its transaction, then says goodbye. */
export function pgClient (client: PgClient): Resource {
  const inside = client as Undocumented
  client.on('error', ignore) // A server that dies is no reason to crash while there are others to close.

  return once({
    close: async () => {
      while (busy()) await moved()
      if (inside._ended === true) return
      // Before `end()`, which waits for a server that may be frozen.
      const leaving = client.end()
      await goodbye([inside.connection?.stream])
      await leaving
    },
    force: async () => {
      if (inside.processID !== null) client.end().catch(ignore)
      await cut([inside.connection?.stream], inside.processID === null ? new Error('The PostgreSQL client was closed by force') : undefined)
    }
  })

  function busy (): boolean {
    if (inside._ended === true || inside._ending === true) return false
    const transaction = inside.getTransactionStatus?.() ?? 'I'
    return Boolean(inside._activeQuery) || Boolean(inside._queryQueue?.length) || Boolean(inside._sentQueryQueue?.length) || transaction !== 'I'
  }

  function moved (): Promise<void> {
    return new Promise(resolve => {
      client.once('drain', resolve)
      client.once('end', resolve)
    })
  }
}
