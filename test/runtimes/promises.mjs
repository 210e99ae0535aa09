/**
 * What a user is promised, one check each. A check returns nothing if the promise holds, a sentence if a client or an
 * operator sees something else without a loss, and throws if the promise is broken.
 *
 * A check waits for lines of the service, and for bytes and ends of connections. It uses no private part of a runtime.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { WebSocket } from 'ws'
import { connect, inTime, received, request, run, serve, sleep } from './client.mjs'

const root = new URL('../../', import.meta.url)
const path = file => fileURLToPath(new URL(file, root))
const get = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
const timeouts = { total: 6_000, requests: 3_000, streams: 2_000, tasks: 2_000, resources: 2_000 }
const noLameDuck = { delay: 0, timeouts }
const lameDuck = { delay: 1_000, timeouts }

/** Ends the service with SIGTERM. @returns its report and its exit code, which must agree */
async function terminate (service) {
  service.kill('SIGTERM')
  return await outcomeOf(service)
}

async function outcomeOf (service) {
  const report = await service.report()
  const { code, signal, stderr } = await service.ended()
  assert.equal(signal, null, `the process ends by ${signal}`)
  assert.equal(code, report.exitCode, `exit code ${code}, ${report.exitCode} in the report ${stderr}`)
  return report
}

/** Starts a request, and waits until its handler runs. The answer does not matter. */
async function hold (service, url) {
  request(service.port, url).catch(() => {})
  await service.said('handler runs')
}

function assertClean (report) {
  assert.deepEqual([report.outcome, report.exitCode, report.errors], ['clean', 0, []])
}

function assert503 ({ status, headers }) {
  assert.equal(status, 503)
  assert.match(headers['retry-after'] ?? 'no Retry-After', /^\d+$/)
  assert.equal(headers.connection, 'close', 'the 503 has Connection: close')
}

/** Promises: a sentence, and its check. `start(settings)` starts a service, which ends with the check. */
export const promises = [
  ['starts, listens and logs no warning', async ({ start }) => {
    const service = await start({ use: ['log'] })
    assert.equal((await request(service.port, '/')).body, 'ok')
    const state = JSON.parse((await request(service.port, '/state')).body)
    assert.deepEqual([state.phase, state.activeRequests], ['running', 1])
    const log = service.lines.filter(line => line.startsWith('{')).map(line => JSON.parse(line))
    assert.ok(log.some(({ msg }) => msg.startsWith('graceful shutdown is ready')))
    assert.deepEqual(log.filter(({ level }) => level > 30), [])
  }],

  ['SIGTERM ends an idle process at once: exit code 0, and a report', async ({ start }) => {
    const service = await start({})
    await sleep(600)
    const began = performance.now()
    assertClean(await terminate(service))
    const took = performance.now() - began
    assert.ok(took < 1_500, `it takes ${Math.round(took)} ms`)
  }],

  ['SIGINT does the same', async ({ start }) => {
    const service = await start({ options: noLameDuck })
    service.kill('SIGINT')
    assertClean(await outcomeOf(service))
  }],

  ['a second SIGTERM ends the process at once: exit code 1', async ({ start }) => {
    const service = await start({ options: noLameDuck })
    await hold(service, '/slow?ms=20000')
    service.kill('SIGTERM')
    await service.said('phase draining')
    await sleep(400)
    service.kill('SIGTERM')
    assert.deepEqual((await service.ended()).code, 1)
  }],

  ['lame-duck: served with `Connection: close`, readiness is 503, then draining, cleaning, shutdown', async ({ start }) => {
    const service = await start({ options: { ...lameDuck, probes: true } })
    assert.equal((await request(service.port, '/health/ready')).status, 200)
    service.kill('SIGTERM')
    await service.said('phase lame-duck')
    const agent = new http.Agent({ keepAlive: true })
    const answer = await request(service.port, '/', { agent })
    assert.deepEqual([answer.status, answer.headers.connection], [200, 'close'])
    assert.equal((await request(service.port, '/health/ready')).status, 503)
    assert.equal((await request(service.port, '/health/live')).status, 200)
    const report = await outcomeOf(service)
    assertClean(report)
    assert.deepEqual(service.lines.filter(line => line.startsWith('phase ')), [
      'phase lame-duck', 'phase draining', 'phase cleaning', 'phase shutdown'
    ])
  }],

  ['lame-duck lasts until no more requests come', async ({ start }) => {
    const service = await start({ options: { delay: { min: 0, max: 3_000, quiet: 400 }, timeouts } })
    await request(service.port, '/')
    service.kill('SIGTERM')
    await service.said('phase lame-duck')
    const report = await outcomeOf(service)
    assertClean(report)
    assert.equal(report.phases[0].endedBy, 'quiet')
  }],

  ['a request in flight is answered whole, and then its connection ends', async ({ start }) => {
    const service = await start({ options: noLameDuck })
    const agent = new http.Agent({ keepAlive: true })
    const answering = request(service.port, '/slow?ms=600', { agent })
    await service.said('handler runs')
    service.kill('SIGTERM')
    const answer = await answering
    assert.deepEqual([answer.status, answer.whole, answer.body.length], [200, true, 100_000])
    assert.equal(answer.headers.connection, 'close')
    const report = await outcomeOf(service)
    assertClean(report)
    assert.equal(report.requests.completed, 1)
  }],

  ['a new request while draining: 503, Retry-After, `Connection: close`', async ({ start }) => {
    const service = await start({ options: noLameDuck })
    await hold(service, '/slow?ms=800')
    service.kill('SIGTERM')
    await service.said('phase draining')
    assert503(await request(service.port, '/'))
    assert.equal((await request(service.port, '/exempt')).body, 'exempt', 'an exempt route is served')
    const report = await outcomeOf(service)
    assertClean(report)
    assert.equal(report.requests.rejected, 1)
  }],

  ['a request on an open connection while draining: the same 503', async ({ start }) => {
    const service = await start({ options: noLameDuck })
    await hold(service, '/slow?ms=800')
    // Half of the head is sent before draining, so that the connection is not idle.
    const connection = await connect(service.port, get.slice(0, -2))
    await sleep(100)
    service.kill('SIGTERM')
    await service.said('phase draining')
    connection.socket.write('\r\n')
    await connection.closed()
    assert.match(connection.received, /^HTTP\/1.1 503 /)
    assert.match(connection.received, /^Connection: close\r$/mi)
    assert.match(connection.received, /^Retry-After: \d+\r$/mi)
    await outcomeOf(service)
  }],

  ['pipelined requests in flight are answered in order', async ({ start }) => {
    const service = await start({ options: noLameDuck })
    const slow = 'GET /slow?ms=300 HTTP/1.1\r\nHost: a\r\n\r\n'
    const connection = await connect(service.port, slow + get)
    await service.said('handler runs')
    await sleep(100)
    service.kill('SIGTERM')
    await connection.closed()
    const statuses = connection.received.match(/HTTP\/1.1 \d+/g)
    assert.deepEqual(statuses, ['HTTP/1.1 200', 'HTTP/1.1 200'])
    assert.ok(connection.received.endsWith('ok'))
    assertClean(await outcomeOf(service))
  }],

  ['idle keep-alive connections end when draining begins', async ({ start }) => {
    const service = await start({ options: noLameDuck })
    const connection = await connect(service.port, get)
    await received(connection, 'ok')
    await hold(service, '/slow?ms=2000')
    service.kill('SIGTERM')
    await service.said('phase draining')
    const began = performance.now()
    await connection.closed()
    const late = performance.now() - began > 1_000
    assertClean(await outcomeOf(service))
    if (late) return 'they end with the last request'
  }],

  ['new connections are refused after a lame-duck', async ({ start }) => {
    const service = await start({ options: { ...lameDuck, delay: 200 } })
    await hold(service, '/slow?ms=1200')
    service.kill('SIGTERM')
    await service.said('phase draining')
    await sleep(300)
    const { code, status } = await request(service.port, '/')
    const report = await outcomeOf(service)
    assertClean(report)
    assert.equal(report.requests.completed, 1)
    if (status === 503) return 'they are accepted, and their requests get the 503'
    assert.equal(code, 'ECONNREFUSED')
  }],

  ['clients that open a connection for each request get an answer, or are refused: no connection is reset', async ({ start }) => {
    // Several times, because the last connections are reset only if they arrive in the same moment.
    for (let restart = 0; restart < 4; restart++) {
      const service = await start({ options: { ...lameDuck, delay: 300 } })
      const counts = {}
      const client = async () => {
        for (let outcome; outcome !== 'ECONNREFUSED';) {
          const { status, code } = await request(service.port, '/')
          outcome = status ?? code
          counts[outcome] = (counts[outcome] ?? 0) + 1
        }
      }
      const clients = Promise.all(Array.from({ length: 20 }, client))
      await sleep(300)
      service.kill('SIGTERM')
      await outcomeOf(service)
      await inTime(clients, 'the clients are refused')
      const { 200: answered = 0, 503: rejected = 0, ECONNREFUSED: refused = 0, ...lost } = counts
      assert.ok(answered > 20 && refused === 20, JSON.stringify(counts))
      assert.equal(Object.keys(lost).length, 0, `lost: ${JSON.stringify(lost)}, ${answered} answered, ${rejected} rejected`)
    }
  }],

  ['a slow reader gets its whole answer', async ({ start }) => {
    const service = await start({ options: noLameDuck })
    const connection = await connect(service.port, 'GET /big?bytes=30000000 HTTP/1.1\r\nHost: a\r\n\r\n')
    connection.socket.pause()
    await service.said('handler runs')
    await sleep(200)
    service.kill('SIGTERM')
    await service.said('phase draining')
    await sleep(500)
    connection.socket.resume()
    await connection.closed()
    const size = connection.received.length - connection.received.indexOf('\r\n\r\n') - 4
    assert.equal(size, 30_000_000, `${size} of 30000000 bytes arrive`)
    assertClean(await outcomeOf(service))
  }],

  ['a client that reads nothing is cut at its time: outcome `forced`, exit code 0', async ({ start }) => {
    const service = await start({ options: { delay: 0, timeouts: { ...timeouts, requests: 800 } } })
    const connection = await connect(service.port, 'GET /big?bytes=30000000 HTTP/1.1\r\nHost: a\r\n\r\n')
    connection.socket.pause()
    await service.said('handler runs')
    await sleep(200)
    const report = await terminate(service)
    connection.socket.destroy()
    assert.deepEqual([report.outcome, report.exitCode, report.requests.cut.length], ['forced', 0, 1])
  }],

  ['a handler that hangs is cut at its time with the 503: exit code 1', async ({ start }) => {
    const service = await start({ options: { delay: 0, timeouts: { ...timeouts, requests: 800 } } })
    const answering = request(service.port, '/hang')
    await service.said('handler runs')
    service.kill('SIGTERM')
    assert503(await answering)
    assert.equal(await service.said('aborted'), 'FST_ERR_SHUTDOWN_DRAINING', '`request.shutdownSignal` aborts')
    const report = await outcomeOf(service)
    assert.deepEqual([report.outcome, report.exitCode, report.requests.cut.length], ['forced', 1, 1])
  }],

  ['`request.shutdownSignal` aborts when its client leaves', async ({ start }) => {
    const service = await start({ options: { delay: 0, timeouts: { ...timeouts, requests: 800 } } })
    const connection = await connect(service.port, 'GET /hang HTTP/1.1\r\nHost: a\r\n\r\n')
    await service.said('handler runs')
    connection.socket.destroy()
    await service.said('aborted')
    await terminate(service)
  }],

  ['an upload in flight arrives whole', async ({ start }) => {
    const service = await start({ options: noLameDuck })
    let send
    const answering = request(service.port, '/upload', {
      method: 'POST',
      headers: { 'content-type': 'application/octet-stream', 'content-length': 2_000_000 },
      body: req => { req.write(Buffer.alloc(1_000_000)); send = () => req.end(Buffer.alloc(1_000_000)) }
    })
    await sleep(300)
    service.kill('SIGTERM')
    await service.said('phase draining')
    await sleep(200)
    send()
    assert.equal((await answering).body, '2000000 bytes')
    assertClean(await outcomeOf(service))
  }],

  ['a new upload while draining can read its 503', async ({ start }) => {
    const service = await start({ options: noLameDuck })
    await hold(service, '/slow?ms=1000')
    service.kill('SIGTERM')
    await service.said('phase draining')
    const answer = await request(service.port, '/upload', {
      method: 'POST', headers: { 'content-type': 'application/octet-stream' }, body: Buffer.alloc(8_000_000)
    })
    assert.equal(answer.status, 503, `the client sees ${answer.code ?? answer.status}`)
    await outcomeOf(service)
  }],

  ['a stream of `app.shutdown.stream()` ends with its end marker', async ({ start }) => {
    const service = await start({ options: noLameDuck })
    const connection = await connect(service.port, 'GET /stream HTTP/1.1\r\nHost: a\r\n\r\n')
    await received(connection, 'tick')
    service.kill('SIGTERM')
    await connection.closed()
    assert.match(connection.received, /event: end\ndata: bye\n\n\r\n0\r\n\r\n$/)
    const report = await outcomeOf(service)
    assertClean(report)
    assert.equal(report.streams.ended, 1)
  }],

  ...['@fastify/websocket', 'ws'].map(library => [`a WebSocket of ${library} is closed with code 1001`, async ({ start }) => {
    const service = await start({ options: noLameDuck, use: [library] })
    const socket = new WebSocket(`ws://127.0.0.1:${service.port}/ws`)
    const closed = once(socket, 'close')
    await inTime(once(socket, 'open'), 'the WebSocket opens')
    socket.send('hello')
    assert.equal(String((await inTime(once(socket, 'message'), 'the echo'))[0]), 'echo hello')
    service.kill('SIGTERM')
    const [code] = await inTime(closed, 'the WebSocket closes')
    assert.equal(code, 1001, `the client gets code ${code}`)
    const report = await outcomeOf(service)
    assertClean(report)
    assert.equal(report.webSockets.closed, 1)
  }]),

  ...[['a silent connection', ''], ['half of a request head', 'GET / HTTP/1.1\r\nHos']].map(([what, text]) => [`${what} delays the end by at most 1 s`, async ({ start }) => {
    const service = await start({ options: noLameDuck })
    const connection = await connect(service.port, text)
    await sleep(100)
    const began = performance.now()
    const report = await terminate(service)
    const took = performance.now() - began
    connection.socket.destroy()
    assert.ok(took < 1_000, `it takes ${Math.round(took)} ms`)
    assert.equal(report.exitCode, 0)
  }]),

  ['half of a request body ends at `timeouts.requests`: exit code 0', async ({ start }) => {
    const service = await start({ options: { delay: 0, timeouts: { ...timeouts, requests: 800 } } })
    const head = 'POST /upload HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nContent-Length: 100\r\n\r\nabc'
    const connection = await connect(service.port, head)
    await sleep(200)
    const began = performance.now()
    const report = await terminate(service)
    const took = performance.now() - began
    connection.socket.destroy()
    assert.ok(took < 3_000, `it takes ${Math.round(took)} ms`)
    assert.deepEqual([report.outcome, report.exitCode], ['forced', 0])
  }],

  ['resources close in the order of their dependencies, and `pause` comes first', async ({ start }) => {
    const resources = { db: {}, cache: { dependsOn: ['db'] }, worker: { dependsOn: ['cache'] } }
    const service = await start({ options: noLameDuck, resources })
    const report = await terminate(service)
    assertClean(report)
    assert.deepEqual(service.lines.filter(line => /^close/.test(line)), [
      'close worker', 'closed worker', 'close cache', 'closed cache', 'close db', 'closed db'
    ])
    assert.ok(service.lines.indexOf('pause db') < service.lines.indexOf('close worker'))
    assert.ok(service.lines.includes('onClose'))
    assert.deepEqual(report.criticalPath.slice(-3), ['worker', 'cache', 'db'])
  }],

  ['a resource that hangs is abandoned at its time, and the others close: exit code 1', async ({ start }) => {
    const resources = { db: {}, cache: { dependsOn: ['db'], hangs: true, timeout: 300 } }
    const service = await start({ options: noLameDuck, resources })
    const report = await terminate(service)
    const outcomes = Object.fromEntries(report.resources.map(({ name, outcome }) => [name, outcome]))
    assert.deepEqual([outcomes, report.exitCode], [{ cache: 'abandoned', db: 'closed' }, 1])
  }],

  ['@fastify/postgres and @fastify/redis are adopted, and close after the last query', async ({ start }) => {
    const service = await start({ options: noLameDuck, use: ['postgres', 'redis'] })
    const answering = request(service.port, '/query')
    await service.said('handler runs')
    service.kill('SIGTERM')
    assert.equal((await answering).body, '7 PONG')
    const report = await outcomeOf(service)
    assertClean(report)
    assert.deepEqual(report.resources.map(({ name, outcome }) => `${name} ${outcome}`).sort(), ['postgres closed', 'redis closed'])
    assert.deepEqual(report.criticalPath.slice(-2), ['redis', 'postgres'])
  }],

  ['`app.close()` drains, resolves, and lets the process end by itself', async ({ start }) => {
    const service = await start({ options: { timeouts } })
    const answering = request(service.port, '/slow?ms=400')
    await service.said('handler runs')
    await request(service.port, '/close')
    assert.equal((await answering).body.length, 100_000)
    await service.said('close resolved')
    const report = await outcomeOf(service)
    assertClean(report)
    assert.equal(report.reason.kind, 'close')
  }],

  ...[['exception', 'throw'], ['rejection', 'reject']].map(([what, route]) => [`an uncaught ${what}: requests in flight are answered, exit code 1`, async ({ start }) => {
    const service = await start({ options: noLameDuck })
    const answering = request(service.port, '/slow?ms=500')
    await service.said('handler runs')
    await request(service.port, `/${route}`)
    assert.equal((await answering).body.length, 100_000)
    const report = await outcomeOf(service)
    assert.deepEqual([report.reason.kind, report.outcome, report.exitCode], ['error', 'failed', 1])
  }]),

  ['`waitUntil` is waited for, and a task gets its signal', async ({ start }) => {
    const service = await start({ options: noLameDuck })
    await request(service.port, '/task')
    const report = await terminate(service)
    assertClean(report)
    assert.deepEqual(report.tasks.map(({ name, outcome }) => `${name} ${outcome}`).sort(), ['job completed', 'mail completed'])
    for (const line of ['waited', 'task done']) assert.ok(service.lines.includes(line), line)
  }],

  ...[['without', 'http', []], ['with', 'https', ['https']]].map(([what, protocol, use]) => [`HTTP/2 ${what} TLS: a stream in flight is answered, then GOAWAY`, async ({ start }) => {
    const service = await start({ options: noLameDuck, server: { http2: true }, use })
    const session = http2.connect(`${protocol}://127.0.0.1:${service.port}`, { rejectUnauthorized: false })
    session.on('error', () => {})
    let goaway = false
    session.on('goaway', () => { goaway = true })
    const closed = once(session, 'close')
    const stream = session.request({ ':path': '/slow?ms=500' })
    let body = ''
    let failure
    stream.setEncoding('utf8').on('data', chunk => { body += chunk }).on('error', error => { failure = error })
    const ended = new Promise(resolve => { stream.on('close', resolve) })
    await service.said('handler runs')
    service.kill('SIGTERM')
    await inTime(ended, 'the stream ends')
    assert.deepEqual([failure, body.length], [undefined, 100_000])
    await inTime(closed, 'the session closes')
    const report = await outcomeOf(service)
    assertClean(report)
    assert.equal(goaway, true, 'GOAWAY arrives')
    assert.equal(report.http2Sessions.closed, 1)
  }]),

  ['HTTPS: a request in flight is answered whole', async ({ start }) => {
    const service = await start({ options: noLameDuck, use: ['https'] })
    const agent = new (await import('node:https')).Agent({ keepAlive: true })
    const answering = request(service.port, '/slow?ms=500', { secure: true, agent })
    await service.said('handler runs')
    service.kill('SIGTERM')
    const answer = await answering
    assert.deepEqual([answer.status, answer.body.length, answer.headers.connection], [200, 100_000, 'close'])
    assertClean(await outcomeOf(service))
  }],

  ['`onReport` is waited for, and the last line of the log is the report', async ({ start }) => {
    const service = await start({ options: noLameDuck, use: ['log'] })
    await terminate(service)
    const last = service.lines.filter(line => line.startsWith('{')).map(line => JSON.parse(line)).at(-1)
    assert.match(last?.msg ?? 'no line', /^shutdown: clean in \d+ ms/)
  }],

  ['the events reach `node:diagnostics_channel`', async ({ start }) => {
    const phasesSeen = async use => {
      const service = await start({ options: noLameDuck, use: [use] })
      await terminate(service)
      return service.lines.filter(line => line.startsWith('channel ')).join()
    }
    const all = 'channel draining,channel cleaning,channel shutdown'
    if (await phasesSeen('channel') === all) return
    assert.equal(await phasesSeen('kept channel'), all)
    return 'only if your code keeps the channel in a variable'
  }],

  ['a worker of node:cluster drains when its primary disconnects it', async ({ start }) => {
    const primary = await start({ options: { timeouts } }, 'cluster.mjs')
    const answering = request(primary.port, '/slow?ms=600')
    await primary.said('handler runs')
    primary.kill('SIGTERM')
    assert.equal((await answering).body.length, 100_000)
    const report = await primary.report()
    assertClean(report)
    assert.equal(await primary.said('worker exit'), '0')
  }],

  ['metrics for Prometheus', async ({ start }) => {
    const service = await start({ options: noLameDuck, use: ['prometheus', 'metrics'] })
    service.kill('SIGTERM')
    const metrics = JSON.parse(await service.said('metrics'))
    assert.match(metrics, /^fastify_shutdown_\w+/m)
    await service.ended()
  }],

  ['the command `budget`', async ({ command }) => {
    assert.deepEqual(await command('budget', path('deploy/kubernetes/base/deployment.yaml')), await command.inNode('budget', path('deploy/kubernetes/base/deployment.yaml')))
  }],

  ['the command `timeline`', async ({ command }) => {
    const report = path('docs/images/report.json')
    assert.ok(JSON.parse(readFileSync(report, 'utf8')))
    const [ours, nodes] = [await command('timeline', report), await command.inNode('timeline', report)]
    assert.ok(nodes.lines.length > 5)
    assert.deepEqual(ours, nodes)
  }]
]

/**
 * Runs one check.
 *
 * @param runtime the command that runs a file, such as `['deno', 'run', '-A']`
 * @returns `works`, `works differently: …` or `does not: …`
 */
export async function check (promise, runtime) {
  const services = []
  const start = async (settings, file) => {
    const service = await serve(runtime, settings, file)
    services.push(service)
    return service
  }
  const command = (...args) => runCommand(runtime, args)
  command.inNode = (...args) => runCommand([process.execPath], args)
  try {
    const different = await promise({ start, command })
    return different === undefined ? 'works' : `works differently: ${different}`
  } catch (error) {
    return `does not: ${error.message.split('\n').filter(line => line.trim() !== '').slice(0, 12).join(' ')}`
  } finally {
    for (const service of services) await service.stop()
  }
}

async function runCommand (runtime, args) {
  const child = run([...runtime, path('bin/fastify-shutdown.js'), ...args])
  const { code, stderr } = await child.ended()
  return { code, stderr, lines: child.lines }
}
