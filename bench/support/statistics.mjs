/** Statistics. Only ratios, because absolute times depend more on the machine than on the code. */

export function quantile (values, q) {
  if (values.length === 0) return NaN
  const sorted = [...values].sort((a, b) => a - b)
  const place = (sorted.length - 1) * q
  const below = Math.floor(place)
  return sorted[below] + (sorted[Math.min(below + 1, sorted.length - 1)] - sorted[below]) * (place - below)
}

export const median = values => quantile(values, 0.5)

/** @returns the median, the middle half, the extremes and the number of the values */
export function summary (values) {
  return { median: median(values), low: quantile(values, 0.25), high: quantile(values, 0.75), min: Math.min(...values), max: Math.max(...values), n: values.length }
}

/** Divides each value by the base's value of the same round, so that a slow round does not change the ratio. */
export function ratios (values, base) {
  return values.map((value, i) => value / (base[i] ?? median(base)))
}

/**
 * Every contender in every round, each round in an order of its own, so that no contender always runs after the same
 * other one.
 *
 * @param sample called with a name and the round's number
 * @returns name -> samples, in the order of the rounds
 */
export async function interleave (names, rounds, sample, log = () => {}) {
  const samples = new Map(names.map(name => [name, []]))
  for (let round = 0; round < rounds; round++) {
    for (const name of shuffle(names)) samples.get(name).push(await sample(name, round))
    log(`round ${round + 1} of ${rounds}`)
  }
  return samples
}

export function shuffle (values) {
  const shuffled = [...values]
  for (let i = shuffled.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [shuffled[i], shuffled[j]] = [shuffled[j], shuffled[i]]
  }
  return shuffled
}
