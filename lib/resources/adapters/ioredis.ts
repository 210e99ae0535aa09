/**
 * ioredis, a single client or a cluster. `quit()` waits for the commands before it, on a frozen server without limit.
 * `disconnect()` alone keeps the socket open for 2 s (`disconnectTimeout`), and commands that wait for a connection
 * never settle (ioredis 6, Redis.js).
 */
import type { Resource } from '../../../types/index'
import { closeOnce, forcedError } from './adapter'
import type { Adapter } from './adapter'
import { destroySockets, waitForSocketsToClose, type Socket } from './sockets'
import { hasFields, hasMethods } from './structure'

/** The part of an ioredis client that the adapter uses. */
export interface IORedis {
  readonly status: string
  quit: (...args: any[]) => Promise<unknown> // any: overloads with a callback
  disconnect (reconnect?: boolean): void
}

/** Parts that ioredis does not document. Without them commands may never settle after `force`. */
interface Internals {
  readonly stream?: Socket | null
  nodes? (role?: string): IORedis[]
  flushQueue? (error: Error): void
  /** Commands that were pending when the connection was lost. They are sent again over the next connection. */
  readonly prevCommandQueue?: {
    readonly length: number, shift (): { readonly command: { reject (error: Error): void } }
  } | null
}

/** Recognises an ioredis client or cluster. */
export const ioredisAdapter: Adapter<IORedis> = {
  kind: 'ioredis',
  matches: client => hasFields(client, 'options', 'status', 'scriptsSet', 'offlineQueue') &&
    hasMethods(client, 'quit', 'disconnect', 'duplicate', 'sendCommand', 'on'),
  adapt: ioredis
}

/**
 * Turns an ioredis client into a resource: `quit()` waits for the commands that were sent; `force` rejects every
 * command.
 */
export function ioredis (client: IORedis): Resource {
  const quit = client.quit.bind(client)
  return closeOnce({
    close: async () => {
      const before = socketsOf(client)
      // A client that never connected: `quit()` would connect first.
      if (client.status === 'wait') client.disconnect()
      else if (client.status !== 'end') await quit().catch(onQuitError)
      // A client that was connecting has its socket only now. A cluster has no nodes after `quit()`, so the earlier
      // sockets are included.
      await waitForSocketsToClose(new Set([...before, ...socketsOf(client)]))
      rejectPending(client, new Error('The Redis client was closed before it could send this command again'))
    },
    force: async () => {
      const error = forcedError('The Redis client')
      const all = nodesOf(client)
      const open = socketsOf(client)
      for (const each of all) each.disconnect()
      await destroySockets(open)
      for (const each of all) rejectPending(each, error)
    }
  })

  /**
   * `quit()` rejects if the connection ends first, and, with `enableOfflineQueue: false`, while the client reconnects.
   * There is no command to wait for in either case.
   */
  function onQuitError (error: unknown): void {
    if (client.status === 'ready') throw error
    if (client.status !== 'end') client.disconnect()
  }
}

/**
 * Rejects the commands that wait for the next connection. `disconnect()`, and `quit()` during a reconnection, leave
 * them pending.
 */
function rejectPending (client: IORedis, error: Error): void {
  const { prevCommandQueue: resend } = client as Internals
  for (let left = resend?.length ?? 0; left > 0; left--) resend!.shift().command.reject(error)
  ;(client as Internals).flushQueue?.(error)
}

function nodesOf (client: IORedis): IORedis[] {
  const { nodes } = client as Internals
  return nodes === undefined ? [client] : [client, ...nodes.call(client, 'all')]
}

function socketsOf (client: IORedis): Array<Socket | null | undefined> {
  return nodesOf(client).map(each => (each as Internals).stream)
}
