/** Parses and checks the values of the arguments: numbers, times, URLs, signals and files. */
import { existsSync, statSync } from 'node:fs'
import { constants } from 'node:os'
import { dirname } from 'node:path'
import { suggest } from '../../util/did-you-mean'
import { UsageError } from '../command'

/** Returns whether a text is JSON. */
export function isJson (text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** Turns the error of a check into a UsageError. */
export function checked<T> (check: () => T): T {
  try {
    return check()
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

/** Parses a URL. Without a scheme, it is http. @throws UsageError */
export function parseUrl (given: string): URL {
  const text = /^[a-z]+:\/\//i.test(given) ? given : `http://${given}`
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new UsageError(`expected --url to be a URL such as http://127.0.0.1:3000, got '${given}'`)
  }
  return new URL(text)
}

/** Parses the name of a signal, with or without `SIG`. @throws UsageError */
export function parseSignal (given: string): NodeJS.Signals {
  const upper = given.toUpperCase()
  const name = (upper.startsWith('SIG') ? upper : `SIG${upper}`) as NodeJS.Signals
  if (name === 'SIGKILL' || name === 'SIGSTOP') throw new UsageError(`no server can handle ${name}`)
  if (!Object.hasOwn(constants.signals, name)) {
    throw new UsageError(`unknown signal '${given}'${suggest(name, Object.keys(constants.signals))}`)
  }
  return name
}

/** Parses seconds. @returns milliseconds @throws UsageError */
export function parseSeconds (name: string, given: string): number {
  const value = Number(given)
  if (!/^\d+(\.\d+)?$/.test(given) || value < 0.1 || value > 86_400) {
    throw new UsageError(`expected --${name} to be seconds from 0.1 to 86400, got '${given}'`)
  }
  return value * 1_000
}

/** Parses a whole number. @throws UsageError */
export function parseWhole (name: string, given: string, least: number, most: number): number {
  if (!/^\d+$/.test(given) || Number(given) < least || Number(given) > most) {
    throw new UsageError(`expected --${name} to be a whole number from ${least} to ${most}, got '${given}'`)
  }
  return Number(given)
}

/** Checks before the drill that a file can be written after it. @throws UsageError */
export function parseTarget (name: string, file: string | undefined): string | null {
  if (file === undefined) return null
  if (file === '' || !existsSync(dirname(file))) throw new UsageError(`--${name}: there is no directory for '${file}'`)
  if (existsSync(file) && statSync(file).isDirectory()) throw new UsageError(`--${name}: '${file}' is a directory`)
  return file
}
