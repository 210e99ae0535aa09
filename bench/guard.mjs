/**
 * The guard: fails if a request allocates more bytes than allowed. It counts bytes, not seconds, so the result is the
 * same on every machine.
 *
 * `npm run guard` measures bare Fastify and the plugin in separate processes, with an error of a few bytes: see
 * `support/bytes.mjs`.
 *
 * A closure has 64 bytes and its context at least 32, an empty array 32, the backing store of a symbol property 40, and
 * a number with a fraction 16. The slack is below the smallest of them. Node 20 and 22 allocate the same. Node 24 needs
 * 120 bytes less for this plugin, so there the guard finds only a growth of more than that.
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
  console.log('The path of a request has grown: see lib/http/fast-path.ts, lib/http/in-flight.ts and lib/http/on-request.ts. If the growth is intended, raise `allowed` in bench/guard.mjs.')
  process.exitCode = 1
}
