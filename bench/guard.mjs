/**
 * The guard: fails when the path of a request grows. Counts bytes, not seconds, so it says the same on every machine.
 *
 * `npm run guard` measures bare Fastify and ours, each in a process of its own with the optimizing compilers off: then every
 * object that the code asks for is allocated, in the order it is asked for, and the least of many batches differs by a few
 * bytes from run to run. With them on, escape analysis and the moment of tier-up would decide.
 *
 * A closure is 64 bytes and its context at least 32, an empty array 32, a symbol property's backing store 40, and a number
 * with a fraction, the least of all, 16: the slack is below it. Node 20 and 22 allocate the same; on 24, which needs 120 bytes
 * less for ours, the guard sees only what is more than that.
 */
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** Bytes that each mode may allocate for a request beyond bare Fastify. Lower them when you make it leaner. */
const allowed = { count: 297, category: 610, detail: 714 }
const slack = 12

const flags = ['--expose-gc', '--no-opt', '--no-maglev', '--no-sparkplug', '--single-threaded', '--hash-seed=1', '--min-semi-space-size=64', '--max-semi-space-size=64']
const child = fileURLToPath(new URL('children/guarded.mjs', import.meta.url))

const bare = bytes('bare')
let grown = false
for (const [mode, limit] of Object.entries(allowed)) {
  const extra = bytes(`shutdown-${mode}`) - bare
  const holds = extra <= limit + slack
  grown ||= !holds
  console.log(`${holds ? 'holds' : 'GROWN'}: track '${mode}' allocates ${extra.toFixed(1)} bytes for a request beyond bare Fastify's ${bare.toFixed(0)}, ${limit} are allowed`)
}
if (grown) {
  console.log('The path of a request has grown: see lib/passing.ts, lib/inflight.ts and lib/gate.ts. What is worth its bytes goes into `allowed` in bench/guard.mjs.')
  process.exitCode = 1
}

function bytes (name) {
  return JSON.parse(execFileSync(process.execPath, [...flags, child, name], { encoding: 'utf8' })).bytes
}
