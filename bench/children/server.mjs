/**
 * A contender on a real port. Prints its port; answers `cpu` with the CPU time it has used; prints its measurements in
 * its exit handler.
 */
import { writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { createApp, monotonic } from '../support/app.mjs'

const { name, port = 0, delay = 0 } = JSON.parse(process.argv[2])
const app = await createApp(name, { delay })

/** How often the loop is looked at, in milliseconds; what is above it in the longest gap is the stall. */
const step = 2
let lastTurn = null
let stall = 0
process.prependOnceListener('SIGTERM', () => {
  lastTurn = monotonic()
  setInterval(look, step).unref()
})
function look () {
  const at = monotonic()
  stall = Math.max(stall, at - lastTurn - step)
  lastTurn = at
}

process.once('exit', () => {
  const exitAt = monotonic()
  if (lastTurn !== null) look()
  writeSync(1, `${JSON.stringify({ exitAt, stallMs: stall, ...app.measured })}\n`)
})

await app.listen({ port, host: '127.0.0.1' })
createInterface(process.stdin)
  .on('line', () => say({ cpu: process.cpuUsage() }))
  // The measuring process is gone, so this process must end itself.
  .on('close', () => process.kill(process.pid, 'SIGKILL'))
// The channel to the measuring process must not keep this one alive: bare Fastify ends when the event loop is empty.
process.stdin.unref()
say({ port: app.server.address().port })

function say (value) {
  writeSync(1, `${JSON.stringify(value)}\n`)
}
