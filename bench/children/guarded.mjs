/** Bytes for a request, exactly: the least of many batches, since what else comes in between (a timer, a new date header) only adds. */
import { createApp } from '../support/app.mjs'
import { keepAliveClients } from '../support/memory-socket.mjs'

const requests = 500
const app = await createApp(process.argv[2])
await app.ready()
const clients = keepAliveClients(app.server)
await clients.send(2_000)

let least = Infinity
for (let i = 0; i < 15; i++) {
  globalThis.gc()
  const before = process.memoryUsage().heapUsed
  await clients.send(requests)
  least = Math.min(least, process.memoryUsage().heapUsed - before)
}
console.log(JSON.stringify({ bytes: least / requests }))
process.exit()
