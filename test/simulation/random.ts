/** Random numbers from a seed, so that a run can be repeated. */

export interface Random {
  /** Returns a whole number from `min` to `max`. */
  between (min: number, max: number): number
  /** Returns one of the values. */
  pick<T> (values: readonly T[]): T
  /** Returns whether an event of this probability happens. */
  chance (probability: number): boolean
}

/** Creates a generator (mulberry32). */
export function createRandom (seed: number): Random {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6D2B79F5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  return {
    between: (min, max) => min + Math.floor(next() * (max - min + 1)),
    pick: values => values[Math.floor(next() * values.length)]!,
    chance: probability => next() < probability
  }
}
