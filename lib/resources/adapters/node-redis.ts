/**
 * node-redis (package `redis`): a client, a pool, a cluster or a sentinel. Version 5 and later have `close` and
 * `destroy`, version 4 has `quit` and `disconnect`.
 */
import type { Resource } from '../../../types/index'
import { closeOnce, hasMethods, ignoreError, property, trackCalls } from './adapter'
import type { Adapter } from './adapter'

/** The part of a node-redis client that the adapter uses. */
export interface NodeRedis {
  readonly isOpen: boolean
  on (event: 'error', listener: (...args: any[]) => void): unknown // any: each version has its own arguments
}

interface Methods {
  close? (): Promise<unknown>
  destroy? (): unknown
  quit? (): Promise<unknown>
  disconnect? (): Promise<unknown>
}

/** Recognises a node-redis client, pool, cluster or sentinel. */
export const nodeRedisAdapter: Adapter<NodeRedis> = {
  kind: 'redis (node-redis)',
  matches: client => typeof property(client, 'isOpen') === 'boolean' && hasMethods(client, 'on') &&
    (hasMethods(client, 'close', 'destroy') || hasMethods(client, 'quit', 'disconnect')),
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
      await (methods.close ?? methods.quit)?.call(client)
    },
    force: async () => {
      client.on('error', ignoreError)
      // `destroy` also ends a client that waits in its `close`.
      await (methods.destroy ?? methods.disconnect)?.call(client)
    }
  })
}
