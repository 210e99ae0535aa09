/**
 * ioredis, a single client or a cluster. `quit()` waits for what was sent before it, on a frozen server for ever;
 * `disconnect()` alone leaves its socket for 2 s (`disconnectTimeout`), and leaves commands that wait for a connection
 * unsettled for good (ioredis 6, Redis.js).
 */
import type { Resource } from '../../../types/index'
import { cut, field, forcedError, goodbye, has, once } from './adapter'
import type { Adapter, Socket } from './adapter'

export interface IORedis {
  readonly status: string
  quit: (...args: any[]) => Promise<unknown> // any: overloads with a callback
  disconnect (reconnect?: boolean): void
}

interface Undocumented {
  readonly stream?: Socket | null
  nodes? (role?: string): IORedis[]
  flushQueue? (error: Error): void
  /** What was under way when its connection was lost, to be sent again over the next one. */
  readonly prevCommandQueue?: { readonly length: number, shift (): { readonly command: { reject (error: Error): void } } } | null
}

export const ioredisAdapter: Adapter<IORedis> = {
  kind: 'ioredis',
  matches: client => has(client, 'quit', 'disconnect', 'duplicate') && typeof field(client, 'status') === 'string',
  adapt: ioredis
}

/**
 * An ioredis client as a resource: `quit()`, which lets what was sent finish; forced, `disconnect()` and an end to its
 * socket, so that every command is rejected.
 */
export function ioredis (client: IORedis): Resource {
  const quit = client.quit.bind(client)
  return once({
    close: async () => {
      const before = sockets(client)
      // Never connected: `quit()` would connect first.
      if (client.status === 'wait') client.disconnect()
      // Rejected where the connection ended first, which is what was asked for.
      else if (client.status !== 'end') await quit().catch(error => { if (client.status !== 'end') throw error })
      // One that was connecting has a socket only now; a cluster that has quit knows its nodes no more.
      await goodbye(new Set([...before, ...sockets(client)]))
      rejectPending(client, new Error('The Redis client was closed before it could send this again'))
    },
    force: async () => {
      const error = forcedError('The Redis client')
      const all = members(client)
      const open = sockets(client)
      for (const each of all) each.disconnect()
      await cut(open)
      for (const each of all) rejectPending(each, error)
    }
  })
}

/** There will be no next connection: `disconnect()` and a `quit()` while it reconnects leave what waits for one for ever. */
function rejectPending (client: IORedis, error: Error): void {
  const { prevCommandQueue: resend } = client as Undocumented
  for (let left = resend?.length ?? 0; left > 0; left--) resend!.shift().command.reject(error)
  ;(client as Undocumented).flushQueue?.(error)
}

/**
 * The same, for a client whose owner will call `quit()` as well, as @fastify/redis does in its onClose hook: from now on
 * `quit()` is the resource's own close, asked twice and done once, and never a rejection.
 * @returns the resource, and what gives the client its own `quit` back
 */
export function adoptIORedis (client: IORedis): { readonly resource: Resource, readonly release: () => void } {
  const resource = ioredis(client)
  const quit = client.quit
  const ownsQuit = Object.hasOwn(client, 'quit')
  const never = new AbortController().signal
  client.quit = async (callback?: (error: null, result: 'OK') => void): Promise<'OK'> => {
    await resource.close?.(never)
    callback?.(null, 'OK')
    return 'OK'
  }
  return {
    resource,
    release: () => {
      if (ownsQuit) client.quit = quit
      else delete (client as { quit?: unknown }).quit
    }
  }
}

function members (client: IORedis): IORedis[] {
  const { nodes } = client as Undocumented
  return nodes === undefined ? [client] : [client, ...nodes.call(client, 'all')]
}

function sockets (client: IORedis): Array<Socket | null | undefined> {
  return members(client).map(each => (each as Undocumented).stream)
}
