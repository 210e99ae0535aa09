/**
 * A contender on a real port. Prints its port; answers `cpu` with the CPU time it has used; prints its measurements in
 * its exit handler.
 */
import { writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { createApp, monotonic } from '../support/app.mjs'
import { watchStalls } from '../support/stall.mjs'

const { name, port = 0, delay = 0 } = JSON.parse(process.argv[2])
const app = await createApp(name, { delay })

/** Begins with the signal: a timer that runs before it would be a cost of the running server. */
let stalls = null
process.prependOnceListener('SIGTERM', () => { stalls = watchStalls() })

process.once('exit', () => {
  const exitAt = monotonic()
  writeSync(1, `${JSON.stringify({ exitAt, stallMs: stalls?.longest() ?? 0, cpu: process.cpuUsage(), ...app.measured })}\n`)
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
