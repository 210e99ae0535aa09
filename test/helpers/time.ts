/**
 * Virtual time. Timers fire one after the other, each in its own millisecond, and promises settle in between.
 * `clock.advance()` alone would fire all timers at the end of the span, in the order in which they were set.
 */
import { Clock } from 'clock-mock'
import type { Test } from 'tap'

// Saved before a clock is entered, because the clock also replaces `setImmediate`.
const immediate = setImmediate

/** Resolves when all promises that need no time have settled. */
export function settled (): Promise<void> {
  return new Promise(resolve => { immediate(resolve) })
}

export interface Time {
  now(): number
  pass(ms: number): Promise<void>
  /** Fires all timers of the next `ms` milliseconds in one turn. No promise settles in between. */
  advance(ms: number): void
  /** Advances the time until the promise settles, by at most one hour. */
  until<T>(promise: Promise<T>): Promise<T>
  /** The number of pending timers. */
  armed(): number
}

/**
 * Lasts until the end of the test. The clock exits before earlier teardowns run, because an app closes in real time.
 */
export function virtualTime (t: Test): Time {
  const clock = new Clock()
  clock.enter()
  // Teardowns run in reverse order.
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
