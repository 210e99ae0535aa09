/** Samples of a process: its memory, handles, listeners and file descriptors. */
import { readdirSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
/** Collects all garbage. It needs no flag on the command line, because the harness of the restarts starts the service. */
export const collect = runInNewContext('gc')

export function sample () {
  collect()
  const { heapUsed, external, rss } = process.memoryUsage()
  return {
    memoryMb: (heapUsed + external) / 1e6,
    residentMb: rss / 1e6,
    handles: tally(process.getActiveResourcesInfo()),
    listeners: Object.fromEntries(process.eventNames().map(name => [String(name), process.listenerCount(name)])),
    descriptors: descriptors()
  }
}

export function tally (words) {
  const counts = {}
  for (const word of words) counts[word] = (counts[word] ?? 0) + 1
  return counts
}

export function sum (counts) {
  return Object.values(counts).reduce((total, count) => total + count, 0)
}

/** Open file descriptors, `null` on systems without /proc. */
function descriptors () {
  try {
    return readdirSync('/proc/self/fd').length
  } catch {
    return null
  }
}
