/**
 * One instance of the soak: the service of the rolling-restart proof with the plugin's defaults, a route with
 * server-sent events, and a second server for HTTP/2 on a socket file. It writes a sample of its memory, handles and
 * listeners to a file, every `SAMPLE_MS` milliseconds and when it ends.
 */
import { appendFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { setPriority } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import gracefulShutdown, { sse } from '../../dist/lib/index.js'
import { createApp, listen } from '../rolling/services/app.mjs'
import { sample } from './sample.mjs'

const { SAMPLES, SAMPLE_MS, HTTP2_SOCKETS, PORT, PRIORITY } = process.env
// Fastify of the package's root: `npm run bench` installs another one in bench/.
const Fastify = createRequire(new URL('../../package.json', import.meta.url))('fastify')

/** Longest life of a WebSocket. Without it, all of them end up on the instance that is never restarted. */
const webSocketMs = { min: 20_000, max: 60_000 }

// The harness starts its services with the ordinary priority. The soak runs beside other work.
setPriority(Number(PRIORITY))
const began = performance.now()
const outcomes = []
const options = { onReport: ({ outcome }) => { outcomes.push(outcome) } }

const http1 = await createApp({
  first: app => app.register(gracefulShutdown, options),
  ready: app => app.shutdownState.ready
})
http1.get('/events', async (_request, reply) => reply.type('text/event-stream').send(http1.shutdown.stream(events(), { end: sse() })))
http1.websocketServer.on('connection', socket => {
  const timer = setTimeout(() => socket.close(1001), webSocketMs.min + Math.random() * (webSocketMs.max - webSocketMs.min))
  socket.once('close', () => clearTimeout(timer))
})

const http2 = Fastify({ http2: true })
await http2.register(gracefulShutdown, options)
http2.get('/', async () => ({ hello: 'world' }))
http2.get('/slow', async request => {
  await sleep(Number(request.query.ms))
  return { waited: request.query.ms }
})
http2.post('/echo', async request => ({ length: request.body.text.length }))

process.once('exit', code => write('exit', { outcomes, code }))
if (SAMPLE_MS !== undefined) setInterval(() => write('running'), Number(SAMPLE_MS)).unref()

const path = `${HTTP2_SOCKETS}/${PORT}`
rmSync(path, { force: true })
await http2.listen({ path })
await listen(http1)

function write (moment, more = {}) {
  const { activeRequests, activeStreams, activeWebSockets } = http1.shutdownState
  const active = activeRequests + activeStreams + activeWebSockets
  const { stats } = http1.shutdownState
  const record = { pid: process.pid, port: Number(PORT), moment, ageMs: performance.now() - began, ...sample(), connections: connections(), active, stats, ...more }
  appendFileSync(SAMPLES, `${JSON.stringify(record)}\n`)
}

/** Sockets that clients have opened. */
function connections () {
  return [http1, http2].reduce((total, { server }) => total + server._connections, 0)
}

async function * events () {
  for (let n = 0; ; n++) {
    yield `data: ${n}\n\n`
    await sleep(200, undefined, { ref: false })
  }
}
