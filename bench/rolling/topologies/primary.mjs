/**
 * The primary of the node:cluster run. A new worker listens before the old one stops. A SIGHUP in between is ignored.
 */
import cluster from 'node:cluster'
import { once } from 'node:events'
import { message } from './processes.mjs'

const workers = []
let reloading = false
let stopping = false

cluster.setupPrimary({ exec: process.env.SERVICE })
process.on('SIGHUP', reload)
process.on('SIGTERM', async () => {
  stopping = true
  await Promise.all(workers.map(end))
  process.exit(0)
})
for (let n = 0; n < Number(process.env.WORKERS); n++) workers.push(await fork())
process.send('ready')

async function reload () {
  if (reloading || stopping) return
  reloading = true
  for (const [n, old] of workers.entries()) {
    if (stopping) break
    workers[n] = await fork()
    process.send({ stopping: n })
    process.send(await end(old))
  }
  reloading = false
  process.send('reloaded')
}

async function fork () {
  const worker = cluster.fork()
  await message(worker, 'ready')
  return worker
}

async function end (worker) {
  const began = performance.now()
  const gone = once(worker, 'exit')
  const kill = setTimeout(() => worker.process.kill('SIGKILL'), 15_000)
  worker.process.kill('SIGTERM')
  const [code, signal] = await gone
  clearTimeout(kill)
  return { ms: performance.now() - began, how: String(code ?? signal) }
}
