/**
 * The server of the soak in `disconnects/`: the same routes over HTTP/1.1 with WebSockets, h2c and HTTP/2 with TLS,
 * each a Fastify instance of its own. Each word on its standard input gets one line of JSON.
 */
import { readFileSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { addRoutes, seen } from '../disconnects/routes.mjs'
import { loadFastify, loadShutdown, monotonic } from '../support/app.mjs'
import { cpuMs, watchStalls } from '../support/stall.mjs'

const { withPlugin, limit } = JSON.parse(process.argv[2])
const fixture = name => readFileSync(new URL(`../../test/helpers/fixtures/${name}`, import.meta.url))
const websocket = createRequire(import.meta.url)('@fastify/websocket')

const apps = {
  'HTTP/1.1': await createApp('HTTP/1.1', {}, true),
  h2c: await createApp('h2c', { http2: true }, false),
  'HTTP/2': await createApp('HTTP/2', { http2: true, https: { key: fixture('key.pem'), cert: fixture('cert.pem') } }, false)
}
const stalls = watchStalls()
const reports = []
let cpuBefore = 0

const words = {
  begin () {
    cpuBefore = cpuMs()
    stalls.reset()
  },
  /** As a metrics endpoint does while the server runs. */
  scrape: () => ({ active: sum(({ state }) => activeOf(state)) }),
  /** Handlers that run at this moment and whose requests do not count as in flight. */
  compare () {
    const active = activeByRoute()
    return { uncounted: withPlugin ? [...seen.running].reduce((total, [route, running]) => total + Math.max(0, running - (active[route] ?? 0)), 0) : 0 }
  },
  /**
   * Destroy the sessions that are open after all clients have left. A busy HTTP/2 session over TLS sometimes stops to
   * read, so that Node never sees the FIN: its socket stays in CLOSE_WAIT, also with bare Fastify.
   */
  sever () {
    const left = Object.values(apps).flatMap(({ sessions }) => [...sessions])
    for (const session of left) session.destroy()
    return { severed: left.length }
  },
  counts: () => ({
    servers: Object.entries(apps).map(([name, { received, state }]) => ({
      name,
      received: received(),
      stats: state?.stats ?? null,
      active: state === undefined ? null : { requests: state.activeRequests, streams: state.activeStreams, webSockets: state.activeWebSockets }
    })),
    left: activeByRoute(),
    open: Object.fromEntries(seen.open),
    repeated: seen.repeated
  }),
  /** Since the last `begin`. */
  load: () => ({ stallMs: stalls.longest(), cpuMs: cpuMs() - cpuBefore }),
  async heap () {
    // Twice and a turn apart: what a finalizer releases is collected the second time.
    globalThis.gc()
    await sleep(20)
    globalThis.gc()
    const { heapUsed, rss, external } = process.memoryUsage()
    return { heapUsed, rss, external }
  }
}

process.once('exit', () => print({ exitAt: monotonic(), reports }))
createInterface(process.stdin)
  .on('line', async word => print(await words[word]() ?? {}))
  .on('close', () => process.kill(process.pid, 'SIGKILL'))
// The shutdown must end the process by itself.
process.stdin.unref()

const ports = {}
for (const [name, { app }] of Object.entries(apps)) {
  await app.listen({ port: 0, host: '127.0.0.1', backlog: 4_096 })
  ports[name] = app.server.address().port
}
print({ ports })

async function createApp (name, options, withWebSockets) {
  const app = loadFastify()({ logger: false, ...options })
  if (withPlugin) {
    await app.register(loadShutdown(), { delay: 0, timeouts: { requests: limit, streams: limit }, onReport: report => { reports.push(report) } })
  }
  if (withWebSockets) {
    await app.register(websocket)
    app.get('/socket', { websocket: true }, socket => { socket.on('message', message => socket.send(message.toString())) })
  }
  addRoutes(app, name)
  let received = 0
  app.server.on('request', () => { received++ })
  const sessions = new Set()
  app.server.on('session', session => {
    sessions.add(session)
    session.once('close', () => sessions.delete(session))
  })
  return { app, sessions, received: () => received, get state () { return app.shutdownState } }
}

function activeOf (state) {
  return state === undefined ? 0 : state.activeRequests + state.activeStreams + state.activeWebSockets
}

function sum (of) {
  return Object.values(apps).reduce((total, app) => total + of(app), 0)
}

function activeByRoute () {
  const counts = {}
  for (const [name, { state }] of Object.entries(apps)) {
    for (const { method, route } of state?.requests() ?? []) {
      const key = `${name} ${method} ${route}`
      counts[key] = (counts[key] ?? 0) + 1
    }
  }
  return counts
}

function print (value) {
  writeSync(1, `${JSON.stringify(value)}\n`)
}
