/**
 * NATS (package `nats`, and `@nats-io/transport-node`): `drain()` lets each subscription finish what has come, then closes.
 * It also ends requests that wait for their answer (nats 2, muxsubscription.js), so these are waited for first.
 */
import type { Resource } from '../../../types/index'
import { cut, has, ignore, once, watch } from './adapter'
import type { Adapter, Socket } from './adapter'

export interface NatsConnection {
  drain (): Promise<void>
  close (): Promise<void>
  closed (): Promise<void | Error>
  isClosed (): boolean
  isDraining (): boolean
}

interface Undocumented {
  readonly protocol?: { readonly transport?: { readonly socket?: Socket } }
}

export const natsAdapter: Adapter<NatsConnection> = {
  kind: 'NATS connection',
  matches: client => has(client, 'drain', 'close', 'closed', 'isClosed', 'isDraining'),
  adapt: natsConnection
}

/** A NATS connection as a resource: drains; forced, closes at once. */
export function natsConnection (connection: NatsConnection): Resource {
  const answered = watch(connection, 'request')
  return once({
    close: async () => {
      await answered()
      if (connection.isClosed()) return
      await (connection.isDraining() ? connection.closed() : connection.drain())
    },
    force: async () => {
      const socket = (connection as Undocumented).protocol?.transport?.socket
      const closing = connection.close()
      closing.catch(ignore)
      // Destroyed by the driver as well, but only behind a write that a frozen server never takes.
      await cut([socket])
      await closing
    }
  })
}
