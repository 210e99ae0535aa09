/** node-redis (package `redis`): a client, a pool, a cluster or a sentinel. From version 5 `close` and `destroy`, in 4 `quit` and `disconnect`. */
import type { Resource } from '../../../types/index'
import { field, has, ignore, once } from './adapter'
import type { Adapter } from './adapter'

export interface NodeRedis {
  readonly isOpen: boolean
  on (event: 'error', listener: (...args: any[]) => void): unknown // any: each version has its own arguments
}

interface Ways {
  close? (): Promise<unknown>
  destroy? (): unknown
  quit? (): Promise<unknown>
  disconnect? (): Promise<unknown>
}

export const nodeRedisAdapter: Adapter<NodeRedis> = {
  kind: 'redis (node-redis)',
  matches: client => typeof field(client, 'isOpen') === 'boolean' && (has(client, 'close', 'destroy') || has(client, 'quit', 'disconnect')) && has(client, 'on'),
  adapt: nodeRedis
}

/** A node-redis client as a resource: waits for the commands that were sent; forced, rejects them. */
export function nodeRedis (client: NodeRedis): Resource {
  const ways = client as NodeRedis & Ways
  return once({
    close: async () => {
      if (!client.isOpen) return
      // A server that goes away now is no reason to crash.
      client.on('error', ignore)
      await (ways.close ?? ways.quit)?.call(client)
    },
    force: async () => {
      client.on('error', ignore)
      // `destroy` also ends a client that is waiting in its `close`.
      await (ways.destroy ?? ways.disconnect)?.call(client)
    }
  })
}
