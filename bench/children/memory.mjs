/** A million requests, then what is left of them. */
import { createApp } from '../support/app.mjs'
import { abortingClients, keepAliveClients } from '../support/memory-socket.mjs'

const { name, requests, aborted } = JSON.parse(process.argv[2])
const app = await createApp(name)
await app.ready()
const clients = keepAliveClients(app.server)

await clients.send(20_000)
await abortingClients(app.server, 2_000)
const before = await collected()
await clients.send(requests / 2)
await abortingClients(app.server, aborted)
await clients.send(requests / 2)
const { rss: rssAfter } = process.memoryUsage()
const heapAfter = await collected()
const { shutdownState: state } = app
const stats = state?.stats
if (stats !== undefined && (stats.aborted !== aborted + 2_000 || state.activeRequests !== 0)) throw new Error(`Miscounted: ${JSON.stringify(stats)}`)
console.log(JSON.stringify({ rssAfter, heapAfter, keptBytes: heapAfter - before, stats }))
process.exit()

/** Twice and a turn apart: what a finalizer lets go of goes with the second. */
async function collected () {
  globalThis.gc()
  await new Promise(resolve => setTimeout(resolve, 20))
  globalThis.gc()
  return process.memoryUsage().heapUsed
}
