/**
 * A contender on a real port whose clients leave all at once. `arrive` is answered when all requests have come,
 * `vanish` when all connections are closed, and `settle` when the limit for detached handlers has passed. Each answer
 * has the longest stall of the event loop and the CPU time since the line before it.
 */
import { writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { createApp } from '../support/app.mjs'
import { cpuMs, watchStalls } from '../support/stall.mjs'

const { name, requests, limit } = JSON.parse(process.argv[2])
const app = await createApp(name, { plugin: { timeouts: { requests: limit } } })
const stalls = watchStalls()
let received = 0
let connected = 0
let cpuBefore = 0

app.server.on('request', () => { received++ })
app.server.on('connection', socket => {
  connected++
  socket.once('close', () => { connected-- })
})

const words = {
  async arrive () {
    print({ began: true })
    await until(() => received === requests)
  },
  async vanish () {
    print({ began: true })
    await until(() => connected === 0)
  },
  async settle () {
    // The plugin looks for what has reached its limit once a second.
    await sleep(limit + 1_500)
  }
}

// The backlog holds all clients: one that finds it full connects only a second later.
await app.listen({ port: 0, host: '127.0.0.1', backlog: 4_096 })
createInterface(process.stdin)
  .on('line', async word => {
    stalls.reset()
    cpuBefore = cpuMs()
    await words[word]()
    // The work that the last event began is part of the stall.
    await sleep(20)
    // The stall is read first: to count what is in flight takes time of its own.
    print({ stallMs: stalls.longest(), cpuMs: cpuMs() - cpuBefore, active: app.shutdownState?.activeRequests ?? null })
  })
  .on('close', () => process.kill(process.pid, 'SIGKILL'))
print({ port: app.server.address().port })

async function until (done) {
  while (!done()) await sleep(5)
}

function print (value) {
  writeSync(1, `${JSON.stringify(value)}\n`)
}
