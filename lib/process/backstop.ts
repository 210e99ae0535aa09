/**
 * The backstop: the process exits with code 1 if a shutdown exceeds its budget by 2 seconds.
 *
 * close-with-grace ends the process. Only its `close()` is used, and all its events are skipped, because its own
 * listeners exit after any error during a shutdown, and after a duplicate of the first signal. Its timer is not used
 * either: it keeps the process alive, and it also counts time in which the process was stopped (SIGSTOP, a suspended
 * machine). The resources would then have no time left.
 */
import closeWithGrace from 'close-with-grace'
import { afterRunning } from '../util/time'

/** Time between the longest budget and the exit by force, in milliseconds. */
export const backstop = 2_000

/**
 * Starts the backstop. It does not keep the process alive.
 *
 * @param budget longest time of the shutdown, in milliseconds
 * @param onTimeout called right before the process exits
 * @returns a function that cancels it
 */
export function startBackstop (budget: number, onTimeout: (delay: number) => void): () => void {
  const delay = budget + backstop
  let cancel = (): void => {}
  const late = new Promise<never>((_resolve, reject) => {
    cancel = afterRunning(delay, () => {
      onTimeout(delay)
      reject(new Error('The shutdown exceeds its time'))
    })
  })
  // It exits with code 1 if its function rejects.
  closeWithGrace({ delay: null, logger: null, skip: [...events] }, () => late).close()
  return cancel
}

/** Every event that close-with-grace 2 listens to by default. */
const events = [
  'SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGILL', 'SIGTRAP', 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGSEGV', 'SIGUSR2', 'SIGTERM',
  'uncaughtException', 'unhandledRejection', 'beforeExit'
] as const
