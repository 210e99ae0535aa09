/**
 * Ends the process. An exit code that is already set, by an uncaught error or by the user, is kept after a clean
 * shutdown.
 */

/**
 * Ends the process after the callbacks that are already queued, so that the callers of `start()` receive the report.
 */
export function exit (code: 0 | 1): void {
  process.exitCode = Number(process.exitCode) || code
  setImmediate(() => process.exit())
}

/** Ends the process immediately: nothing else runs. */
export function forceExit (code: 1): never {
  process.exit(code)
}

/** Sets the exit code of the process to 1, unless a failure has set another one. */
export function markFailed (): void {
  process.exitCode = Number(process.exitCode) || 1
}
