/**
 * What a request costs in this process: in bytes allocated, or in time. Of the time two readings: p10 of the batches, which
 * is the quietest but sees no garbage collection, and the CPU time of all threads over all batches, which sees it all.
 */
import { createApp } from '../support/app.mjs'
import { keepAliveClients } from '../support/memory-socket.mjs'
import { median, quantile } from '../support/statistics.mjs'

const { name, what, warmUp, batches, perBatch } = JSON.parse(process.argv[2])
const app = await createApp(name)
await app.ready()
const clients = keepAliveClients(app.server)
await clients.send(warmUp)

const readings = []
const cpuBefore = process.cpuUsage()
for (let i = 0; i < batches; i++) {
  if (what === 'bytes') globalThis.gc()
  const before = reading()
  await clients.send(perBatch)
  readings.push((reading() - before) / perBatch)
}
const { user, system } = process.cpuUsage(cpuBefore)
console.log(JSON.stringify({ cpuPerRequest: (user + system) * 1_000 / batches / perBatch, perRequest: what === 'bytes' ? median(readings) : quantile(readings, 0.1) }))
process.exit()

/** Bytes are exact where no garbage collection comes between: the parent asks for a young generation that is large enough. */
function reading () {
  return what === 'bytes' ? process.memoryUsage().heapUsed : Number(process.hrtime.bigint())
}
