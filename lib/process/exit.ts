/** The one door out of the process. An exit code that is there already, a crash's or the user's own, outlives a clean shutdown. */

/** Ends the process, once what was promised to run after the report has had its turn. */
export function exit (code: 0 | 1): void {
  process.exitCode = Number(process.exitCode) || code
  setImmediate(() => process.exit())
}

/** Ends the process before anything else runs. */
export function exitNow (code: 1): never {
  process.exit(code)
}

/** However the process ends from here on, it was no success. */
export function markFailed (): void {
  process.exitCode = Number(process.exitCode) || 1
}
