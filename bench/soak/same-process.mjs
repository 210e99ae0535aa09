/**
 * The process that restarts its servers. It registers the plugin, serves clients of every kind and shuts down, again
 * and again, until its standard input ends. The plugin has its signals on, and `exit: false`. The process prints a
 * sample every `sampleMs` milliseconds.
 *
 *   node same-process.mjs '{ "sampleMs": 10000, "pauseMs": 300 }'
 *
 * `restarts`: the process ends after this number of restarts. `leak`: what each restart keeps on purpose: `memory`,
 * `listener` or `handle`. A test uses it to show that the samples contain the leak.
 */
import { once } from 'node:events'
import { subscribe } from 'node:diagnostics_channel'
import http from 'node:http'
import { connect as openSession } from 'node:http2'
import { createRequire } from 'node:module'
import { connect, createServer } from 'node:net'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { writeSync } from 'node:fs'
import gracefulShutdown, { sse } from '../../dist/lib/index.js'
import { prometheus } from '../../dist/lib/exporters/prometheus.js'
import { collect, sample } from './sample.mjs'

// The packages of the root: `npm run bench` installs another Fastify in bench/.
const require = createRequire(new URL('../../package.json', import.meta.url))
const Fastify = require('fastify')
const websocket = require('@fastify/websocket')
const { Registry } = require('prom-client')
const { WebSocket } = require('ws')

const { sampleMs, pauseMs, leak, restarts: longest = Infinity } = JSON.parse(process.argv[2])
const upload = Buffer.alloc(256 * 1_024, 'x')
/** What begins the shutdown of a restart, in turn, and the outcome that it must have. */
const ways = [
  { name: 'app.close()', outcome: 'clean', begin: apps => apps.forEach(app => app.close()) },
  { name: 'shutdown.start()', outcome: 'clean', begin: apps => apps.forEach(app => app.shutdown.start('soak')) },
  { name: 'SIGTERM', outcome: 'clean', begin: () => process.kill(process.pid, 'SIGTERM') },
  { name: 'uncaught error', outcome: 'failed', begin: () => { Promise.reject(new Error('on purpose')) } }
]

/**
 * No timeout: Node keeps a destroyed HTTP/2 session, and with it the server, until the session's timer fires, also with
 * bare Fastify. Fastify's default is 72 s.
 */
const sessionTimeout = 0

/** Longest time until both slow handlers run, in milliseconds. */
const longestStart = 30_000

/** One registry and one subscriber for the whole life of the process. */
const registry = new Registry()
let phases = 0
subscribe('fastify-shutdown:phase', () => { phases++ })

const kept = []
const errors = []
/** Calls of the slow handlers of this restart. */
const slow = { handlers: 0 }
let restarts = 0
const ending = new AbortController()
let sampledAt = performance.now()
process.stdin.on('end', () => ending.abort()).resume()

while (!ending.signal.aborted && restarts < longest) {
  await restart(ways[restarts % ways.length])
  restarts++
  await sleep(pauseMs)
  if (performance.now() - sampledAt >= sampleMs) await print()
}
await print()
// The uncaught errors have set the exit code.
process.exit(0)

async function print () {
  sampledAt = performance.now()
  // Twice, and a turn apart: the second collection frees what a finalizer has released.
  collect()
  await sleep(20)
  writeSync(1, `${JSON.stringify({ restarts, ...sample(), errors: errors.length, lastErrors: errors.slice(-5) })}\n`)
}

async function restart ({ name, outcome, begin }) {
  const reports = []
  const phasesBefore = phases
  const http1 = await createApp({}, reports)
  const http2 = await createApp({ http2: true, http2SessionTimeout: sessionTimeout }, reports)
  const apps = [http1, http2]
  for (const app of apps) await app.listen({ port: 0, host: '127.0.0.1' })
  // A registration that is refused leaves nothing behind.
  await Fastify().register(gracefulShutdown, { delay: 'wrong' }).ready().then(() => errors.push('no error for a wrong option'), () => {})
  if (leak === 'memory') kept.push(Buffer.alloc(1_000_000))
  if (leak === 'listener') process.on('beforeExit', () => {})
  if (leak === 'handle') createServer().listen(0, '127.0.0.1')

  slow.handlers = 0
  const clients = [...await openHttp1(http1.server.address().port), await openHttp2(http2.server.address().port)]
  const closed = apps.map(app => new Promise(resolve => app.server.once('close', resolve)))
  // Both requests must be in flight when the shutdown begins.
  for (const since = performance.now(); slow.handlers < 2 && performance.now() - since < longestStart;) await sleep(1)
  begin(apps)
  for (const client of clients) await client().catch(error => errors.push(`${name}: ${error.message}`))
  await Promise.all(closed)
  for (let n = 0; reports.length < apps.length && n < 500; n++) await sleep(10)
  // lame-duck, draining, cleaning, shutdown. app.close() has no lame-duck.
  const expected = apps.length * (name === 'app.close()' ? 3 : 4)
  if (phases - phasesBefore !== expected) errors.push(`${name}: ${phases - phasesBefore} phases instead of ${expected}`)
  for (const report of reports) if (report.outcome !== outcome) errors.push(`${name}: ${report.outcome}: ${JSON.stringify(report.errors)} ${JSON.stringify(report.requests)}`)
  if (reports.length !== apps.length) errors.push(`${name}: ${reports.length} reports`)
}

async function createApp (options, reports) {
  const app = Fastify(options)
  await app.register(gracefulShutdown, {
    exit: false,
    delay: 50,
    probes: true,
    track: 'detail',
    categories: { slow: 5_000 },
    exporters: [prometheus({ registry })],
    onReport: report => { reports.push(report) },
    resources: {
      database: { close: () => sleep(1) },
      worker: { dependsOn: ['database'], pause: () => {}, close: () => sleep(1) }
    }
  })
  if (options.http2 === undefined) {
    await app.register(websocket)
    app.get('/socket', { websocket: true }, socket => { socket.on('message', message => socket.send(message.toString())) })
  }
  app.get('/', async () => ({ hello: 'world' }))
  app.post('/echo', async request => ({ length: request.body.text.length }))
  app.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  app.post('/uploads', async request => ({ bytes: request.body.length }))
  app.get('/stream', async (_request, reply) => reply.send(Readable.from(['first', 'second', 'end'])))
  app.get('/events', async (_request, reply) => reply.type('text/event-stream').send(app.shutdown.stream(events(), { end: sse() })))
  app.get('/slow', { config: { shutdown: { category: 'slow' } } }, async () => {
    slow.handlers++
    app.shutdown.task('mail', async () => { await sleep(20) }).catch(error => errors.push(error.message))
    await sleep(60)
    return { hello: 'late' }
  })
  return app
}

async function * events () {
  yield 'data: first\n\n'
  await new Promise(() => {})
}

/** @returns functions that wait for the end of what is open when the shutdown begins, and check it */
async function openHttp1 (port) {
  const agent = new http.Agent({ keepAlive: true })
  const ask = (path, body, type) => request({ port, path, agent, body, type })
  for (let n = 0; n < 3; n++) await expect(ask('/'), text => JSON.parse(text).hello === 'world')
  await expect(ask('/echo', JSON.stringify({ text: 'four' }), 'application/json'), text => JSON.parse(text).length === 4)
  await expect(ask('/uploads', upload, 'application/octet-stream'), text => JSON.parse(text).bytes === upload.length)
  await expect(ask('/stream'), text => text.endsWith('end'))
  // A client that leaves, a silent connection, and half a head.
  const leaving = connect(port, '127.0.0.1').on('error', () => {})
  leaving.end('GET /events HTTP/1.1\r\nHost: soak\r\n\r\n', () => setTimeout(() => leaving.resetAndDestroy(), 5))
  const silent = connect(port, '127.0.0.1').on('error', () => {}).resume()
  const half = connect(port, '127.0.0.1').on('error', () => {}).resume()
  half.write('GET / HTTP/1.1\r\nHost:')
  const socket = new WebSocket(`ws://127.0.0.1:${port}/socket`).on('error', () => {})
  await once(socket, 'open')
  socket.send('echo')
  const [echo] = await once(socket, 'message')
  if (echo.toString() !== 'echo') errors.push('another echo')
  const webSocketCode = once(socket, 'close')
  const slow = handled(ask('/slow'))
  const begun = createGate()
  const stream = handled(request({ port, path: '/events', agent: false, onData: begun.open }))
  await begun.opened
  const ended = [silent, half].map(socket => once(socket, 'close'))
  return [
    () => expect(slow, text => JSON.parse(text).hello === 'late'),
    () => expect(stream, text => text.endsWith('\n\n') && text.includes('event: ')),
    async () => { if ((await webSocketCode)[0] !== 1001) throw new Error('WebSocket closed without 1001') },
    async () => { await Promise.all(ended) },
    async () => { agent.destroy() }
  ]
}

async function openHttp2 (port) {
  const session = openSession(`http://127.0.0.1:${port}`).on('error', () => {})
  const ask = path => new Promise((resolve, reject) => {
    let text = ''
    const stream = session.request({ ':path': path }).setEncoding('utf8')
    stream.on('data', part => { text += part }).on('error', reject).on('close', () => resolve({ status: 200, text }))
  })
  await expect(ask('/'), text => JSON.parse(text).hello === 'world')
  const cancelled = session.request({ ':path': '/events' }).on('error', () => {})
  cancelled.close(8)
  const closed = once(session, 'close')
  const slow = handled(ask('/slow'))
  return async () => {
    await expect(slow, text => JSON.parse(text).hello === 'late')
    await closed
  }
}

function request ({ port, path, agent, body, type, onData = () => {} }) {
  return new Promise((resolve, reject) => {
    const sent = http.request({ port, host: '127.0.0.1', path, agent, method: body === undefined ? 'GET' : 'POST', headers: body === undefined ? {} : { 'content-type': type, 'content-length': Buffer.byteLength(body) } }, answer => {
      let text = ''
      answer.setEncoding('utf8').on('data', part => { text += part; onData() })
      answer.on('error', reject).on('end', () => resolve({ status: answer.statusCode, text }))
    })
    sent.on('error', reject).end(body)
  })
}

async function expect (answer, isRight) {
  const { status, text } = await answer
  if (status !== 200) throw new Error(`status ${status}`)
  if (!isRight(text)) throw new Error(`wrong answer: ${text.slice(0, 80)}`)
}

/** Its error is for a later `await`. Until then, it must not be an uncaught error, which would begin a shutdown. */
function handled (promise) {
  promise.catch(() => {})
  return promise
}

function createGate () {
  let open
  const opened = new Promise(resolve => { open = resolve })
  return { open, opened }
}
