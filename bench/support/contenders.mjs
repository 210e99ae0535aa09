/** The contenders, in the order of the tables. Each has a file in `contenders/`. */
export const everybody = [
  'bare', 'bare-again', 'limit', 'on-request', 'hook-pair',
  'shutdown-count', 'shutdown-category', 'shutdown-detail', 'shutdown-rejection',
  'close-with-grace', 'fastify-graceful-shutdown', 'fastify-graceful-exit', 'terminus', 'http-terminator',
  'stoppable', 'http-graceful-shutdown', 'lightship', 'under-pressure'
]

/**
 * A contender exports:
 * - `label`
 * - `install(app, { delay })`, which is called before the routes and `ready()`
 * - `parts`, if it does not take part in all measurements
 * - `delays: true`, if it can still serve for some time before it drains
 */
export async function load (name) {
  return await import(`../contenders/${name}.mjs`)
}

/** The baseline of all comparisons. It is never left out. */
const scales = ['bare', 'bare-again', 'limit']

/** @param only names from the command line, none for all */
export async function whoTakesPart (part, only = []) {
  const names = []
  for (const name of everybody) {
    // This loads only the contender's own file: `install` imports its package.
    const { parts } = await load(name)
    if (parts !== undefined && !parts.includes(part)) continue
    if (only.length === 0 || scales.includes(name) || only.includes(name)) names.push(name)
  }
  return names
}

export async function labelOf (name) {
  return (await load(name)).label
}
