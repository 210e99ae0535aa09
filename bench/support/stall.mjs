/** The longest stall of this process's event loop: the longest time that a due timer has waited. */
import { monotonic } from './app.mjs'

/** Time between two readings, in milliseconds. It is part of every gap, and is not counted. */
const step = 2

/**
 * A gap counts only up to the CPU time that this process used in it. On a machine with other load the rest is time in
 * which the system ran another process.
 *
 * @returns `reset()`, and `longest()`: the longest stall since then, in milliseconds
 */
export function watchStalls () {
  let longest = 0
  let last = read()
  setInterval(look, step).unref()
  return {
    reset () {
      last = read()
      longest = 0
    },
    longest () {
      look()
      return longest
    }
  }

  function look () {
    const now = read()
    longest = Math.max(longest, Math.min(now.at - last.at - step, now.cpuMs - last.cpuMs))
    last = now
  }
}

/** Milliseconds of CPU time that this process has used. */
export function cpuMs () {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1_000
}

function read () {
  return { at: monotonic(), cpuMs: cpuMs() }
}
