/**
 * Ends the process. An exit code that is already set, by an uncaught error or by the user, is kept after a clean
 * shutdown.
 */
import { writeSync } from 'node:fs'
import { toError } from '../errors'
import { after } from '../util/time'

/** Options of `exit`. */
export interface ExitOptions {
  /** Longest time in which the process may end by itself, in milliseconds; 0 if nothing else is left to do. */
  readonly wait: number
  /** Flushes the log. Never rejects. */
  readonly flush: () => Promise<unknown>
  /** Removes our listeners. Called if the process ends by itself, so that it then behaves as without us. */
  readonly removeListeners: () => void
  /** Called if the process has not ended by itself in time. */
  readonly onLate: () => void
}

/**
 * Ends the process: after the callbacks that are already queued, so that the callers of `start()` receive the report,
 * or by itself within `wait` milliseconds.
 */
export function exit (code: 0 | 1, { wait, flush, removeListeners, onLate }: ExitOptions): void {
  // 0 is not set: Node would then also exit with 0 if an 'exit' listener throws.
  if (code === 1) markFailed()
  if (wait === 0) {
    setImmediate(() => { void end() })
    return
  }
  removeListeners()
  process.once('beforeExit', () => { void flush() })
  // The timer does not keep the process alive: it ends when nothing else is left to do.
  after(wait, () => {
    onLate()
    void end()
  }, { keepAlive: false })

  async function end (): Promise<void> {
    await flush()
    exitNow() // Our listeners stay until then: without one, one more signal would end the process.
  }
}

/**
 * Ends the process immediately: nothing else runs except the 'exit' listeners.
 *
 * If a listener throws (thread-stream of pino does: "_flushSync took too long"), Node does not exit. A second call
 * exits without the listeners.
 */
export function exitNow (code?: 0 | 1): never {
  if (code !== undefined) process.exitCode = code
  try {
    process.exit() // With `undefined` as its argument, Node would reset the exit code.
  } catch (error) {
    writeSync(2, `fastify-shutdown: an 'exit' listener threw: ${toError(error).stack}\n`)
    process.exit(Number(process.exitCode) || 1)
  }
}

/** Sets the exit code of the process to 1, unless a failure has set another one. */
export function markFailed (): void {
  process.exitCode = Number(process.exitCode) || 1
}
