/** Measures real time on a busy machine. */

/** Interval at which `timed` measures whether this process is scheduled, in milliseconds. */
const look = 5

/**
 * Measures the duration of `work`, and how much of it this process lost to other processes of a busy machine: time in
 * which it had work to do and was not scheduled. Time in which our own code blocks the event loop is not lost time.
 *
 * @returns the milliseconds that `work` took, and the milliseconds of them that were lost
 */
export async function timed (work: () => Promise<unknown>): Promise<{ took: number, lost: number }> {
  const began = performance.now()
  let last = { at: began, cpu: cpuTime() }
  let lost = 0
  const note = (): void => {
    const now = { at: performance.now(), cpu: cpuTime() }
    lost += Math.max(0, now.at - last.at - 2 * look - (now.cpu - last.cpu))
    last = now
  }
  const timer = setInterval(note, look)
  try {
    await work()
    note()
    return { took: performance.now() - began, lost }
  } finally {
    clearInterval(timer)
  }
}

/** The CPU time of this process, in milliseconds. */
function cpuTime (): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1_000
}
