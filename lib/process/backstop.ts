/**
 * The backstop: the process exits with code 1 if a shutdown exceeds its budget by 2 seconds.
 *
 * close-with-grace does this. Only its `close()` is used, and all its events are skipped, because its own listeners exit
 * after any error during a shutdown, and after a duplicate of the first signal. Its timer keeps the process alive. So a
 * timer of ours replaces it if the process should end by itself: see `other-owners.ts`.
 */
import closeWithGrace from 'close-with-grace'
import { after } from '../util/time'
import { exitNow } from './exit'

/** Time between the longest budget and the exit by force, in milliseconds. */
export const backstop = 2_000

/** The longest time of a Node timer, in milliseconds. */
const longestTimer = 2 ** 31 - 1

/**
 * Starts the backstop.
 *
 * @param budget longest time of the shutdown, in milliseconds
 * @param keepAlive whether it may keep the process alive
 * @param onTimeout called right before the process exits
 */
export function startBackstop (budget: number, keepAlive: boolean, onTimeout: (delay: number) => void): void {
  const delay = Math.min(longestTimer, budget + backstop)
  if (keepAlive) {
    closeWithGrace({ delay, logger: null, skip: [...events], onTimeout }, () => new Promise<void>(() => {})).close()
    return
  }
  after(delay, () => {
    onTimeout(delay)
    exitNow(1)
  }, { keepAlive: false })
}

/** Every event that close-with-grace 2 listens to by default. */
const events = [
  'SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGILL', 'SIGTRAP', 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGSEGV', 'SIGUSR2', 'SIGTERM',
  'uncaughtException', 'unhandledRejection', 'beforeExit'
] as const
