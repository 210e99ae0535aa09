/**
 * pino: a logger, or the destination to which it writes (sonic-boom, a transport). A logger is flushed and not ended,
 * because the report of the shutdown is logged later. A destination is ended, which writes what is left; a later write
 * throws. Both are `last`.
 */
import type { Resource } from '../../../types/index'
import { untilWritten } from '../../util/until-written'
import { closeOnce, ignoreError } from './adapter'
import type { Adapter } from './adapter'
import { hasFields, hasMethods, property } from './structure'

/** The part of a pino logger that the adapter uses. */
export interface PinoLogger {
  flush (callback?: (error?: Error | null) => void): void
}

/** The part of a pino destination that the adapter uses. */
export interface PinoDestination {
  flush (callback?: (error?: Error | null) => void): void
  end (): void
  once (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
  on (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
}

/** Recognises a pino logger. */
export const pinoLoggerAdapter: Adapter<PinoLogger> = {
  kind: 'pino logger',
  // `pino.symbols` has this symbol, and it is in the global registry, so every copy of pino has the same.
  matches: client => Symbol.for('pino.serializers') in client && hasMethods(client, 'child', 'bindings', 'flush'),
  adapt: pinoLogger
}

/** Recognises a pino destination. */
export const pinoDestinationAdapter: Adapter<PinoDestination> = {
  kind: 'pino destination',
  // sonic-boom has the buffer, and thread-stream has the worker of a transport.
  matches: client => (hasFields(client, '_bufs', 'fd', 'minLength') || hasFields(client, 'worker')) &&
    hasMethods(client, 'write', 'flush', 'flushSync', 'end', 'once', 'on'),
  adapt: pinoDestination
}

/** Turns a pino logger into a resource: its buffer is written. */
export function pinoLogger (logger: PinoLogger): Resource {
  return closeOnce({
    last: true,
    close: async () => {
      await new Promise<void>((resolve, reject) => {
        logger.flush(error => { if (error == null) resolve(); else reject(error) })
      })
      await untilWritten(logger)
    }
  })
}

/** Turns a pino destination into a resource: its buffer is written, then it is closed. `force` drops what is left. */
export function pinoDestination (destination: PinoDestination): Resource {
  return closeOnce({
    last: true,
    close: async () => {
      // sonic-boom has `destroyed`, a transport has `closed`.
      if (property(destination, 'destroyed') === true || property(destination, 'closed') === true) return
      const closed = new Promise<void>((resolve, reject) => {
        destination.once('close', () => resolve())
        destination.once('error', reject)
      })
      closed.catch(ignoreError)
      destination.end() // Writes what is left.
      await closed
    },
    force: () => {
      destination.on('error', ignoreError)
      const destroy = property(destination, 'destroy')
      if (typeof destroy === 'function') destroy.call(destination)
    }
  })
}
