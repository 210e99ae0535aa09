/**
 * pino: a logger, or the destination it writes to (sonic-boom, a transport). A logger is flushed and not ended, since the
 * report of the shutdown itself is still to be logged; a destination is ended, which writes what is left, and a write after that throws.
 * Closes last.
 */
import type { Resource } from '../../../types/index'
import { field, has, ignore, once } from './adapter'
import type { Adapter } from './adapter'

export interface PinoLogger {
  flush (callback?: (error?: Error | null) => void): void
}

export interface PinoDestination {
  flush (callback?: (error?: Error | null) => void): void
  end (): void
  once (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
  on (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
}

export const pinoLoggerAdapter: Adapter<PinoLogger> = {
  kind: 'pino logger',
  matches: client => has(client, 'child', 'bindings', 'flush'),
  adapt: pinoLogger
}

export const pinoDestinationAdapter: Adapter<PinoDestination> = {
  kind: 'pino destination',
  matches: client => has(client, 'write', 'flush', 'flushSync', 'end', 'once'),
  adapt: pinoDestination
}

/** A pino logger as a resource: what it has buffered is written. */
export function pinoLogger (logger: PinoLogger): Resource {
  return once({
    last: true,
    close: () => new Promise<void>((resolve, reject) => {
      logger.flush(error => { if (error == null) resolve(); else reject(error) })
    })
  })
}

/** A pino destination as a resource: what it has buffered is written, then it is closed; forced, what is left is dropped. */
export function pinoDestination (destination: PinoDestination): Resource {
  return once({
    last: true,
    close: async () => {
      // sonic-boom says destroyed, a transport closed.
      if (field(destination, 'destroyed') === true || field(destination, 'closed') === true) return
      const closed = new Promise<void>((resolve, reject) => {
        destination.once('close', () => resolve())
        destination.once('error', reject)
      })
      closed.catch(ignore)
      destination.end() // Writes what is left.
      await closed
    },
    force: () => {
      destination.on('error', ignore)
      const destroy = field(destination, 'destroy')
      if (typeof destroy === 'function') destroy.call(destination)
    }
  })
}
