/** undici's Client, Pool, Agent and the other dispatchers: `close()` lets requests under way finish, `destroy()` rejects them. */
import type { Resource } from '../../types/index'
import { field, forcedError, has, once } from '../adapter'
import type { Adapter } from '../adapter'

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
  return once({
    // Rejects where it has been destroyed before.
    close: async () => { if (field(dispatcher, 'destroyed') !== true) await dispatcher.close() },
    force: () => dispatcher.destroy(forcedError('The HTTP client'))
  })
}
