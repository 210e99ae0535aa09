/**
 * The least code that closes in order: a counter of open dependants per resource. It has no timeouts, error handling,
 * checks of names or report. It is the bound for comparisons.
 */
export function countingTeardown (resources) {
  const names = Object.keys(resources)
  const waiting = new Map(names.map(name => [name, 0]))
  for (const name of names) for (const other of resources[name].dependsOn) waiting.set(other, waiting.get(other) + 1)
  return new Promise(resolve => {
    let left = names.length
    for (const [name, count] of [...waiting]) if (count === 0) close(name)
    function close (name) {
      resources[name].close().then(() => {
        for (const other of resources[name].dependsOn) {
          const count = waiting.get(other) - 1
          waiting.set(other, count)
          if (count === 0) close(other)
        }
        if (--left === 0) resolve()
      })
    }
  })
}
