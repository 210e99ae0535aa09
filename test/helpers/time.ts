/**
 * Virtual time. What is due happens one after the other, each in its own millisecond, and promises settle in between:
 * `clock.advance()` alone would run all that is due at the end of the span, in the order in which it was asked for.
 */
import { Clock } from 'clock-mock'
import type { Test } from 'tap'

// Kept from before any clock is entered, since the clock stops this one too.
const immediate = setImmediate

/** Whatever can settle without time passing has settled. */
export function settled (): Promise<void> {
  return new Promise(resolve => { immediate(resolve) })
}

export interface Time {
  now(): number
  pass(ms: number): Promise<void>
  /** Run at once, and together, what is due within `ms` milliseconds. Nothing else happens in between. */
  advance(ms: number): void
  /** Let time pass until the promise settles, at most an hour. */
  until<T>(promise: Promise<T>): Promise<T>
  /** How many timers are armed. */
  armed(): number
}

/** Until the test is over. The clock exits before what was set up earlier is torn down: an app closes in real time. */
export function virtualTime (t: Test): Time {
  const clock = new Clock()
  clock.enter()
  // The teardown that was added last runs first.
  t.teardown(() => clock.exit())

  const next = (): number => Math.min(...[...clock.timers].filter(([, timers]) => timers.length > 0).map(([due]) => due))
  async function pass (ms: number): Promise<void> {
    const end = clock.now() + ms
    await settled()
    for (let due = next(); due <= end; due = next()) {
      clock.advance(Math.max(0, due - clock.now()))
      await settled()
    }
    clock.advance(end - clock.now())
    await settled()
  }

  return {
    now: () => clock.now(),
    pass,
    advance: ms => clock.advance(ms),
    async until (promise) {
      const limit = clock.now() + 3_600_000
      const waiting = new Set([promise])
      const end = (): void => { waiting.clear() }
      promise.then(end, end)
      await settled()
      while (waiting.size > 0) {
        const due = next()
        if (due > limit) throw new Error('Nothing is due any more, and the promise has not settled')
        clock.advance(Math.max(0, due - clock.now()))
        await settled()
      }
      return promise
    },
    armed: () => [...clock.timers.values()].reduce((count, timers) => count + timers.length, 0)
  }
}
