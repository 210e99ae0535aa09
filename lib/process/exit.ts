/** The one door out of the process. */

/** Ends the process, once what was promised to run after the report has had its turn. */
export function exit (code: 0 | 1): void {
  process.exitCode = code
  setImmediate(() => process.exit(code))
}
