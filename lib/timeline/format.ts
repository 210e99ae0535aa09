/** Formats times, counts and lists for a person. */
import { shorten } from './plain-text'

/** Longest name in a sentence, in cells. */
export const longestName = 60

/** Returns a duration with its unit and about three digits: `0.4 ms`, `12 ms`, `1.25 s`, `2 min 5 s`. */
export function formatDuration (ms: number): string {
  if (ms === 0) return '0 ms'
  if (ms < 9.95) return `${trim(ms.toFixed(1))} ms`
  if (ms < 999.5) return `${Math.round(ms)} ms`
  if (ms < 9_995) return `${(ms / 1_000).toFixed(2)} s`
  if (ms < 59_950) return `${(ms / 1_000).toFixed(1)} s`
  const seconds = Math.round(ms / 1_000)
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return seconds % 60 === 0 ? `${minutes} min` : `${minutes} min ${seconds % 60} s`
  const hours = Math.floor(minutes / 60)
  return `${hours} h ${minutes % 60} min`
}

/** Returns the label of an axis at this time. The step between the labels decides the unit. */
export function formatTick (ms: number, step: number): string {
  if (ms === 0) return '0'
  if (step < 1_000 && ms < 1_000) return `${trim(ms.toFixed(3))} ms`
  if (step < 60_000) return `${trim((ms / 1_000).toFixed(3))} s`
  return formatDuration(ms)
}

/** Returns a point in time as `2026-11-27 02:21:26 UTC`, or an empty string if it is none. */
export function formatDate (iso: string): string {
  const date = new Date(iso)
  return Number.isNaN(date.getTime()) ? '' : `${date.toISOString().slice(0, 19).replace('T', ' ')} UTC`
}

/** Returns a number with its noun: `1 request`, `2 requests`. */
export function count (number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}

/** Returns the first names of a list, each shortened, and how many more there are. */
export function listed (names: readonly string[], most: number, separator = ', '): string {
  const more = names.length - most
  const first = names.slice(0, most).map(name => shorten(name, longestName)).join(separator)
  return more > 0 ? `${first} and ${more} more` : first
}

/** Returns the first items of a list as lines, and a line with how many more there are. */
export function firstLines<T> (items: readonly T[], most: number, line: (item: T) => string): string[] {
  const more = items.length - most
  return [...items.slice(0, most).map(line), ...(more > 0 ? [`and ${more} more`] : [])]
}

/** Removes zeros at the end of a decimal number. */
function trim (number: string): string {
  return number.replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, '')
}
