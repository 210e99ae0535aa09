/**
 * How long answers take, each over a connection of its own: plain ones, and those of a server that drains.
 * With `overHttp` the clients are in the measuring process: it prints its port, and its CPU time for each line.
 * `how`: `200` as if nothing were, `503` while draining (ours), `fastify` for Fastify's own 503 once it closes.
 */
import { writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { createApp } from '../support/app.mjs'
import { close, held, MemorySocket, oneShotClients } from '../support/memory-socket.mjs'
import { quantile } from '../support/statistics.mjs'

const { name, how, plugin, warmUp, batches, perBatch, overHttp = false } = JSON.parse(process.argv[2])
// Fastify may stay between `closing` and closed as long as we like: preClose hooks are cut at pluginTimeout, 0 is none.
const app = await createApp(name, { fastify: { pluginTimeout: 0 }, plugin: { signals: false, ...plugin } })
if (how === 'fastify') app.addHook('preClose', () => new Promise(() => {}))
await app.ready()
if (overHttp) await app.listen({ port: 0, host: '127.0.0.1' })

if (how === 'fastify') app.close()
if (how === '503') {
  // One request that is never answered keeps the server draining.
  const socket = new MemorySocket(() => {})
  app.server.emit('connection', socket)
  socket.push(held)
  await new Promise(resolve => setImmediate(resolve))
  app.shutdown.start()
}
if (how !== '200') await new Promise(resolve => setTimeout(resolve, 50))

if (overHttp) {
  const print = value => writeSync(1, `${JSON.stringify(value)}\n`)
  createInterface(process.stdin).on('line', () => print({ cpu: process.cpuUsage() })).on('close', () => process.exit())
  print({ port: app.server.address().port })
  await new Promise(() => {})
}

const first = await oneShotClients(app.server, warmUp)
if (!first.startsWith(`HTTP/1.1 ${how === '200' ? 200 : 503}`)) throw new Error(`Expected ${how}, got ${first}`)
if (how === '503' && !/^retry-after: /im.test(first)) throw new Error(`That is Fastify's own 503: ${first}`)
const readings = []
const cpuBefore = process.cpuUsage()
for (let i = 0; i < batches; i++) {
  const before = process.hrtime.bigint()
  await oneShotClients(app.server, perBatch, close)
  readings.push(Number(process.hrtime.bigint() - before) / perBatch)
}
const { user, system } = process.cpuUsage(cpuBefore)
console.log(JSON.stringify({ cpuPerRequest: (user + system) * 1_000 / batches / perBatch, perRequest: quantile(readings, 0.1), first }))
process.exit()
