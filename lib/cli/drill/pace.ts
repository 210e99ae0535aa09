/** The pace of the traffic: calls a function at a rate. */
import { every, now } from '../../util/time'

/** Longest interval between two calls of the timer, in milliseconds. */
const longestInterval = 50

/** Time of which the calls are repeated at most, in seconds. Time in which the drill was stopped is left out. */
const longestGap = 0.02

/**
 * Calls `begin` at a rate.
 *
 * @param rate calls per second
 * @returns a function that stops it
 */
export function startPace (rate: number, begin: () => void): () => void {
  const most = Math.max(1, Math.ceil(rate * longestGap))
  let due = 0
  let last = now()
  return every(Math.max(1, Math.min(longestInterval, 1_000 / rate)), () => {
    const time = now()
    due = Math.min(due + (time - last) * rate / 1_000, most)
    last = time
    for (; due >= 1; due--) begin()
  })
}
