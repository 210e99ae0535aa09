/** The time of Fastify's import, and then the time until an app with a contender is ready. */
import { createRequire } from 'node:module'
import { createApp, loadFastify, monotonic } from '../support/app.mjs'

const { cache } = createRequire(import.meta.url)
const { name } = JSON.parse(process.argv[2])
const began = monotonic()
loadFastify()
const fastifyAt = monotonic()
const before = Object.keys(cache).length
const app = await createApp(name)
await app.ready()
const readyAt = monotonic()
await app.listen({ port: 0, host: '127.0.0.1' })
const { user, system } = process.cpuUsage()
console.log(JSON.stringify({ cpuMs: (user + system) / 1_000, wholeMs: readyAt - began, importShare: (readyAt - fastifyAt) / (fastifyAt - began), modules: Object.keys(cache).length - before }))
process.exit()
