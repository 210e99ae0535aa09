/**
 * A single pg Client without a pool, for example for LISTEN. `end()` destroys the connection if a query is pending
 * (pg 8.23, lib/client.js), so the adapter calls it when the queue is empty and no transaction is open.
 */
import type { Resource } from '../../../types/index'
import { closeOnce, ignoreError } from './adapter'
import type { Adapter } from './adapter'
import { destroySockets, waitForSocketsToClose, type Socket } from './sockets'
import { hasFields, hasMethods } from './structure'

/** The part of a pg Client that the adapter uses. */
export interface PgClient {
  end (): Promise<void>
  on (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
  once (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
}

/** Parts that pg does not document, or only in recent versions. Without them `close` does not wait for queries. */
interface Internals {
  readonly processID?: number | null
  readonly connection?: { readonly stream?: Socket }
  readonly _ended?: boolean
  readonly _ending?: boolean
  readonly _activeQuery?: unknown
  readonly _queryQueue?: readonly unknown[]
  readonly _sentQueryQueue?: readonly unknown[]
  getTransactionStatus? (): string | null
}

/** Recognises a pg Client. */
export const pgClientAdapter: Adapter<PgClient> = {
  kind: 'pg Client',
  matches: client => hasFields(client, 'connectionParameters', '_queryQueue', '_ending') &&
    hasMethods(client, 'connect', 'query', 'end', 'escapeIdentifier', 'on'),
  adapt: pgClient
}

/** Turns a pg Client into a resource: it waits for its queries and its transaction, then ends the connection. */
export function pgClient (client: PgClient): Resource {
  const internals = client as Internals
  client.on('error', ignoreError) // Without a listener, the process would end if the database dies.

  return closeOnce({
    close: async () => {
      while (isBusy()) await queueChanged()
      if (internals._ended === true) return
      // `end()` waits for the server, which may be frozen. The socket is destroyed if it does not close in time.
      const ended = client.end()
      await waitForSocketsToClose([internals.connection?.stream])
      await ended
    },
    force: async () => {
      if (internals.processID !== null) client.end().catch(ignoreError)
      await destroySockets(
        [internals.connection?.stream],
        internals.processID === null ? new Error('The PostgreSQL client was closed by force') : undefined
      )
    }
  })

  function isBusy (): boolean {
    if (internals._ended === true || internals._ending === true) return false
    const transaction = internals.getTransactionStatus?.() ?? 'I'
    return Boolean(internals._activeQuery) ||
      Boolean(internals._queryQueue?.length) ||
      Boolean(internals._sentQueryQueue?.length) ||
      transaction !== 'I'
  }

  function queueChanged (): Promise<void> {
    return new Promise(resolve => {
      client.once('drain', resolve)
      client.once('end', resolve)
    })
  }
}
