/**
 * undici's Client, Pool, Agent and the other dispatchers: `close()` lets requests under way finish, `destroy()` rejects
 * them. An Agent forgets its pools when `close()` is called (undici 7, lib/dispatcher/agent.js), so that `destroy()` after
 * it ends nothing: they are remembered here.
 */
import type { Resource } from '../../../types/index'
import { field, forcedError, has, once } from './adapter'
import type { Adapter } from './adapter'

export interface UndiciDispatcher {
  close (): Promise<void>
  destroy (error?: Error | null): Promise<void>
}

export const undiciAdapter: Adapter<UndiciDispatcher> = {
  kind: 'undici Client, Pool or Agent',
  matches: client => has(client, 'dispatch', 'request', 'close', 'destroy'),
  adapt: undiciDispatcher
}

/** An undici dispatcher as a resource. */
export function undiciDispatcher (dispatcher: UndiciDispatcher): Resource {
  let inside: UndiciDispatcher[] = []
  return once({
    close: async () => {
      // Rejects where it has been destroyed before.
      if (field(dispatcher, 'destroyed') === true) return
      inside = poolsOf(dispatcher)
      await dispatcher.close()
    },
    force: async () => {
      const error = forcedError('The HTTP client')
      await Promise.all([dispatcher, ...inside].map(each => each.destroy(error)))
    }
  })
}

// Under a symbol that undici keeps for itself; where it is missing, requests end by their own timeouts.
function poolsOf (dispatcher: UndiciDispatcher): UndiciDispatcher[] {
  const symbol = Object.getOwnPropertySymbols(dispatcher).find(({ description }) => description === 'clients')
  const clients = symbol === undefined ? undefined : (dispatcher as unknown as Record<symbol, unknown>)[symbol]
  if (!(clients instanceof Map)) return []
  return [...clients.values()].map(each => each?.dispatcher ?? each).filter(each => each != null && has(each, 'destroy'))
}
