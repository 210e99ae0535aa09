/**
 * undici's Client, Pool, Agent and the other dispatchers. `close()` waits for the pending requests, `destroy()` rejects
 * them. An Agent removes its pools when `close()` is called (undici 7, lib/dispatcher/agent.js), and a later
 * `destroy()` ends nothing. So the adapter keeps the pools.
 */
import type { Resource } from '../../../types/index'
import { closeOnce, forcedError } from './adapter'
import type { Adapter } from './adapter'
import { hasFields, hasMethods, property } from './structure'

/** The part of an undici dispatcher that the adapter uses. */
export interface UndiciDispatcher {
  close (): Promise<void>
  destroy (error?: Error | null): Promise<void>
}

/** Recognises an undici dispatcher. */
export const undiciAdapter: Adapter<UndiciDispatcher> = {
  kind: 'undici Client, Pool or Agent',
  // These are the public methods of undici's class Dispatcher, an event emitter. `compose()` returns a Proxy of it.
  mayBeProxy: true,
  matches: client => hasFields(client, '_events') && hasMethods(
    client, 'dispatch', 'request', 'stream', 'pipeline', 'connect', 'upgrade', 'close', 'destroy', 'on'
  ),
  adapt: undiciDispatcher
}

/** Turns an undici dispatcher into a resource. */
export function undiciDispatcher (dispatcher: UndiciDispatcher): Resource {
  let pools: UndiciDispatcher[] = []
  return closeOnce({
    close: async () => {
      // `close()` of a destroyed dispatcher rejects.
      if (property(dispatcher, 'destroyed') === true) return
      pools = poolsOf(dispatcher)
      await dispatcher.close()
    },
    force: async () => {
      const error = forcedError('The HTTP client')
      await Promise.all([dispatcher, ...pools].map(each => each.destroy(error)))
    }
  })
}

// undici stores them under a symbol that it does not export. If the symbol is missing, requests end by their own
// timeouts.
function poolsOf (dispatcher: UndiciDispatcher): UndiciDispatcher[] {
  const symbol = Object.getOwnPropertySymbols(dispatcher).find(({ description }) => description === 'clients')
  const clients = symbol === undefined ? undefined : (dispatcher as unknown as Record<symbol, unknown>)[symbol]
  if (!(clients instanceof Map)) return []
  return [...clients.values()]
    .map(each => each?.dispatcher ?? each)
    .filter(each => each != null && hasMethods(each, 'destroy'))
}
