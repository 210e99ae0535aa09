/**
 * node-redis (package `redis`): a client, a pool, a cluster or a sentinel. Version 5 and later have `close` and
 * `destroy`, version 4 has `quit` and `disconnect`.
 *
 * `quit()` and `close()` of a client set `isOpen` to false. From then on it never connects again, so commands that wait
 * for a connection never settle. In version 4, `disconnect()` only throws then. So a client of version 4, and each that
 * is not connected, gets a last PING, which the server answers after all commands before it, and is destroyed then.
 */
import type { Resource } from '../../../types/index'
import { within } from '../../util/time'
import { closeOnce, ignoreError, trackCalls } from './adapter'
import type { Adapter } from './adapter'
import { hasFields, hasGetters, hasMethods, isObject, property } from './structure'

/** The part of a node-redis client that the adapter uses. */
export interface NodeRedis {
  readonly isOpen: boolean
  on (event: 'error', listener: (...args: any[]) => void): unknown // any: each version has its own arguments
}

interface Methods {
  readonly isReady: boolean
  close? (): Promise<unknown>
  destroy? (): unknown
  quit (): Promise<unknown>
  disconnect (): Promise<unknown>
  sendCommand (args: readonly string[]): Promise<unknown>
  /** Its sockets then no longer keep the process alive. A pool, a cluster and a sentinel do not have this method. */
  unref? (): void
}

/** Longest time that a client that is not connected gets to connect again, in milliseconds. */
const reconnectTimeout = 250

/** Recognises a node-redis client, pool, cluster or sentinel. */
export const nodeRedisAdapter: Adapter<NodeRedis> = {
  kind: 'redis (node-redis)',
  // Version 5 and later refer to the client itself in `_self`. In version 4, `multi` is a field of each instance.
  matches: client => hasGetters(client, 'isOpen') && hasMethods(client, 'HGETALL', 'hGetAll', 'sendCommand', 'on') &&
    ((isObject(property(client, '_self')) && hasMethods(client, 'close', 'destroy')) ||
      (hasFields(client, 'multi') && property(client, 'multi') === property(client, 'MULTI'))),
  adapt: nodeRedis
}

/** Turns a node-redis client into a resource: it waits for the commands that were sent; `force` rejects them. */
export function nodeRedis (client: NodeRedis): Resource {
  const methods = client as NodeRedis & Methods
  // `isOpen` is false as soon as the owner calls one of these, while commands are still pending.
  const ownerHasClosed = trackCalls(client, 'close', 'quit')
  return closeOnce({
    close: async () => {
      if (!client.isOpen) return await ownerHasClosed()
      // Without a listener, the process would end if the Redis server dies now.
      client.on('error', ignoreError)
      await expectClosed(close)
    },
    force: async () => {
      client.on('error', ignoreError)
      await expectClosed(destroy)
    }
  })

  async function close (): Promise<void> {
    // A pool, a cluster and a sentinel do not have this getter. They close their own clients.
    const isClient = hasGetters(client, 'isPubSubActive')
    // `close()` destroys a client without pending commands at once, also if the server is frozen.
    if (methods.close !== undefined && (!isClient || methods.isReady)) await methods.close()
    else if (isClient) await destroyAfterCommands()
    else await methods.quit()
  }

  async function destroyAfterCommands (): Promise<void> {
    const answered = methods.sendCommand(['PING']).catch(ignoreError)
    if (methods.isReady) await answered
    else await within(reconnectTimeout, () => answered)
    await destroy()
  }

  async function destroy (): Promise<void> {
    try {
      await (methods.destroy === undefined ? methods.disconnect() : methods.destroy())
    } catch (error) {
      // Version 5: `destroy()` after `close()` rejects the commands and throws, and its socket stays open while the
      // server does not answer. There is no access to this socket.
      methods.unref?.()
      throw error
    }
  }

  // A client that is closed already, or whose server dies meanwhile, throws. It is closed all the same.
  async function expectClosed (action: () => Promise<void>): Promise<void> {
    try {
      await action()
    } catch (error) {
      if (client.isOpen) throw error
    }
  }
}
