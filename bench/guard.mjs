/**
 * The guard: fails if a request allocates more than allowed. It counts bytes, not seconds, so the result is the same on
 * every machine.
 *
 * `npm run guard` measures bare Fastify and the plugin in separate processes, with an error of a few bytes: see
 * `support/bytes.mjs`.
 *
 * A closure is 64 bytes and its context at least 32, an empty array 32, a symbol property's backing store 40, and a
 * number with a fraction, the least of all, 16: the slack is below it. Node 20 and 22 allocate the same; on 24, which
 * needs 120 bytes less for ours, the guard sees only what is more than that.
 */
import { bytesPerRequest } from './support/bytes.mjs'

/** Bytes that each mode may allocate for a request beyond bare Fastify. Lower them when you make it leaner. */
const allowed = { count: 297, category: 650, detail: 755 }
const slack = 12

const bare = bytesPerRequest('bare')
let grown = false
for (const [mode, limit] of Object.entries(allowed)) {
  const extra = bytesPerRequest(`shutdown-${mode}`) - bare
  const holds = extra <= limit + slack
  grown ||= !holds
  console.log(`${holds ? 'holds' : 'GROWN'}: track '${mode}' allocates ${extra.toFixed(1)} bytes for a request beyond bare Fastify's ${bare.toFixed(0)}, ${limit} are allowed`)
}
if (grown) {
  console.log('The path of a request has grown: see lib/http/fast-path.ts, lib/http/in-flight.ts and lib/http/on-request.ts. What is worth its bytes goes into `allowed` in bench/guard.mjs.')
  process.exitCode = 1
}
