/**
 * Piscina, a pool of worker threads. `close()` waits for the tasks, at most its own `closeTimeout` (30 s by default).
 * `destroy()` ends the threads and rejects the tasks.
 */
import type { Resource } from '../../../types/index'
import { closeOnce, shareCall } from './adapter'
import type { Adapter } from './adapter'
import { hasFields, hasGetters, hasMethods } from './structure'

/** The part of a Piscina that the adapter uses. */
export interface Piscina {
  close (): Promise<void>
  destroy (): Promise<void>
  on (event: 'error', listener: (error: Error) => void): unknown
}

/** Recognises a Piscina. */
export const piscinaAdapter: Adapter<Piscina> = {
  kind: 'Piscina',
  matches: client => hasFields(client, '_events') && hasGetters(client, 'threads', 'queueSize', 'completed') &&
    hasMethods(client, 'run', 'close', 'destroy', 'on'),
  adapt: piscina
}

/** Turns a Piscina into a resource. Its `closeTimeout` ends the tasks too, and makes `close` reject. */
export function piscina (pool: Piscina): Resource {
  shareCall(pool, 'close')
  return closeOnce({
    close: async () => {
      const failed = new Promise<never>((_resolve, reject) => { pool.on('error', reject) })
      await Promise.race([failed, pool.close()])
    },
    force: () => pool.destroy()
  })
}
