/** Checks of values that the user gives. Each error names the option, the expected value and the received value. */
import { ShutdownOptionError, received } from './errors'
import { suggest } from './util/did-you-mean'
import { longestTimer } from './util/time'

/** Name before version 1.0 -> name now. */
export type Renamed = Readonly<Record<string, string>>

/** Checks that a text is one of a list. @throws FST_ERR_SHUTDOWN_OPTION */
export function oneOf<T extends string> (name: string, given: T, allowed: readonly T[]): T {
  return allowed.includes(given)
    ? given
    : throwInvalid(name, `one of ${allowed.map(word => `'${word}'`).join(', ')}`, given)
}

/** Checks a time. @returns the time in milliseconds @throws FST_ERR_SHUTDOWN_OPTION */
export function milliseconds (name: string, given: unknown, least: number): number {
  if (typeof given === 'number' && given >= least && given <= longestTimer) return given
  return throwInvalid(name, `a number of milliseconds from ${least} to ${longestTimer}`, given)
}

/**
 * Checks that `given` is an object with no other fields.
 *
 * @param option the name of the object in the message
 * @param kind what a field is, as `an option`
 * @throws FST_ERR_SHUTDOWN_OPTION with "did you mean"
 */
export function checkNames (
  option: string, given: object, allowed: readonly string[], kind: string, renamed: Renamed = {}
): void {
  if (!isPlainObject(given)) throwInvalid(option, 'an object', given)
  for (const name of Object.keys(given)) {
    if (Object.hasOwn(renamed, name)) throw new ShutdownOptionError(`'${name}' was renamed to '${renamed[name]}'`)
    if (!allowed.includes(name)) throw new ShutdownOptionError(`'${name}' is not ${kind}${suggest(name, allowed)}`)
  }
}

/** Returns whether a value is an object and not a list. `any`, because the caller narrows each of its values. */
export function isPlainObject (value: unknown): value is Record<string, any> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Checks a function that may be missing. @throws FST_ERR_SHUTDOWN_OPTION */
export function checkFunction<T> (name: string, given: T): T {
  return given === undefined || typeof given === 'function' ? given : throwInvalid(name, 'a function', given)
}

/** @throws FST_ERR_SHUTDOWN_OPTION with expected and received */
export function throwInvalid (name: string, expected: string, value: unknown): never {
  throw new ShutdownOptionError(`Expected '${name}' to be ${expected}, got ${received(value)}`)
}
