/** The error of a drill that could not run. */

/** The drill could not run: exit code 2, and its message is one line. */
export class CannotRunError extends Error {}
