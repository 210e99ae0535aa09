/**
 * NATS (packages `nats` and `@nats-io/transport-node`). `drain()` waits until each subscription has processed its
 * messages, then closes. It also ends requests that wait for an answer (nats 2, muxsubscription.js), so the adapter
 * first waits for the requests.
 */
import type { Resource } from '../../../types/index'
import { closeOnce, ignoreError, trackCalls } from './adapter'
import type { Adapter } from './adapter'
import { destroySockets, type Socket } from './sockets'
import { hasFields, hasMethods, isObject, property } from './structure'

/** The part of a NATS connection that the adapter uses. */
export interface NatsConnection {
  drain (): Promise<void>
  close (): Promise<void>
  closed (): Promise<void | Error>
  isClosed (): boolean
  isDraining (): boolean
}

/** Parts that the driver does not document. Without them `force` waits for a frozen server. */
interface Internals {
  readonly protocol?: { readonly transport?: { readonly socket?: Socket } }
}

/** Recognises a NATS connection. */
export const natsAdapter: Adapter<NatsConnection> = {
  kind: 'NATS connection',
  matches: client => {
    const protocol = hasFields(client, 'options', 'draining', 'protocol') ? property(client, 'protocol') : undefined
    return isObject(protocol) && 'transport' in protocol &&
      hasMethods(client, 'drain', 'close', 'closed', 'isClosed', 'isDraining')
  },
  adapt: natsConnection
}

/** Turns a NATS connection into a resource: it drains; `force` closes it at once. */
export function natsConnection (connection: NatsConnection): Resource {
  const requestsAnswered = trackCalls(connection, 'request')
  return closeOnce({
    close: async () => {
      await requestsAnswered()
      if (connection.isClosed()) return
      await (connection.isDraining() ? connection.closed() : connection.drain())
    },
    force: async () => {
      const socket = (connection as Internals).protocol?.transport?.socket
      const closing = connection.close()
      closing.catch(ignoreError)
      // The driver destroys it after a last write, which a frozen server never accepts.
      await destroySockets([socket])
      await closing
    }
  })
}
