/**
 * What a request costs in this process, in time. Two readings: p10 of the batches, which is the quietest but sees no
 * garbage collection, and the CPU time of all threads over all batches, which sees it all.
 */
import { createApp } from '../support/app.mjs'
import { keepAliveClients } from '../support/memory-socket.mjs'
import { quantile } from '../support/statistics.mjs'

const { name, warmUp, batches, perBatch } = JSON.parse(process.argv[2])
const app = await createApp(name)
await app.ready()
const clients = keepAliveClients(app.server)
await clients.send(warmUp)

const readings = []
const cpuBefore = process.cpuUsage()
for (let i = 0; i < batches; i++) {
  const before = process.hrtime.bigint()
  await clients.send(perBatch)
  readings.push(Number(process.hrtime.bigint() - before) / perBatch)
}
const { user, system } = process.cpuUsage(cpuBefore)
console.log(JSON.stringify({ cpuPerRequest: (user + system) * 1_000 / batches / perBatch, perRequest: quantile(readings, 0.1) }))
process.exit()
