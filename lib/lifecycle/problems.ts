/**
 * The errors of a shutdown, which do not stop it: of user code, of other libraries and of our own code. They are in
 * `report.errors`, and the outcome is then `failed`.
 */
import { toError } from '../errors'
import { withErrorJson } from '../util/error-json'

/** Reports an error that does not stop the shutdown. The message names the step that failed. */
export type OnProblem = (message: string, error: unknown) => void

/** The errors of one shutdown. */
export interface Problems {
  /** The errors so far, each with the name of the step that failed. */
  readonly errors: readonly Error[]
  /** The shutdown begins: errors are recorded from here. Errors of a running server are not recorded. */
  begin(): void
  /** Records an error. Does nothing before `begin`. Never throws. */
  record(message: string, error: unknown): void
}

/** Most errors that the report lists. */
const mostErrors = 100

/** Creates an empty list. */
export function createProblems (): Problems {
  const errors: Error[] = []
  let began = false
  return {
    errors,
    begin () { began = true },
    record (message, error) {
      if (began && errors.length < mostErrors) errors.push(namedError(message, error))
    }
  }
}

/**
 * Returns an error whose message names the step that failed. Its `cause` is the error of the step, and its code is the
 * code of the cause, if there is one.
 */
function namedError (step: string, error: unknown): Error & { readonly code?: string } {
  const cause = toError(error)
  const { code } = cause as NodeJS.ErrnoException
  const named = new Error(`${step}: ${cause.message}`, { cause })
  return withErrorJson(Object.assign(named, typeof code === 'string' ? { code } : {}))
}
