/**
 * The rule that decides whether a series of samples is flat.
 *
 * The first quarter of the samples is left out, because caches fill and code is compiled. The growth is the median of
 * the slopes between all pairs of the other samples (Theil-Sen), multiplied by the time between the first and the last
 * of them. So a single unusual sample does not change the result, but a slow leak does.
 */
import { median } from './statistics.mjs'

/** Fewer samples are not enough for a result. */
export const fewest = 8

/** @returns the growth from the first to the last sample after the warm-up, in the unit of the values */
export function growth (values) {
  const settled = values.slice(Math.floor(values.length / 4))
  const slopes = []
  for (let i = 0; i < settled.length; i++) {
    for (let j = i + 1; j < settled.length; j++) slopes.push((settled[j] - settled[i]) / (j - i))
  }
  return slopes.length === 0 ? 0 : median(slopes) * (settled.length - 1)
}

/**
 * @param limit the largest growth that counts as flat
 * @returns a row of the verdict. Too few samples are never flat
 */
export function flat (what, limit, values) {
  const value = Number(growth(values).toFixed(2))
  const enough = values.length >= fewest
  return { what, limit, value: enough ? value : `only ${values.length} samples`, holds: enough && value <= limit }
}

/** @returns a row of the verdict: a value that may not be larger than its limit */
export function atMost (what, limit, value) {
  return { what, limit, value, holds: value <= limit }
}
