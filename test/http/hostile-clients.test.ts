/**
 * Hostile or broken clients: they leave, stay silent, send slowly, or send bytes that are not HTTP. No such client
 * harms other clients, leaves memory behind, or delays the drain beyond the timeouts.
 */
import { execFileSync } from 'node:child_process'
import type net from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { FastifyInstance } from 'fastify'
import type { ShutdownStats } from '../../types/index'
import { connect, eventually, fetchOnce, get, type Client } from '../helpers/client'
import { run, translate } from '../helpers/children'
import { entered, serve, serveHeld } from '../helpers/serve'

const directory = translate(t.testdir(), ['lib', 'test/helpers/client.ts', 'test/http/fixtures/aborted.ts', 'test/http/fixtures/crowded.ts'])

t.test('a hundred thousand aborted requests leave no memory behind, and are counted', async t => {
  const requests = 100_000
  const child = run(t, {
    args: ['--expose-gc', join(directory, 'test/http/fixtures/aborted.js')],
    cwd: directory,
    env: { ABORTED: JSON.stringify({ track: 'detail', requests, depth: 20 }) }
  })
  const { kept, stats, inFlight, listed, outcome, drainMs, ms } = JSON.parse(await child.said('result')) as {
    kept: number, ms: number, stats: ShutdownStats, inFlight: number, listed: number, outcome: string, drainMs: number
  }
  t.comment(`${requests} requests in ${Math.round(ms)} ms, ${kept} bytes kept`)
  const all = requests + requests / 10
  t.match(stats, { received: all, completed: 0, rejected: 0, aborted: all, cut: 0 })
  t.same({ inFlight, listed }, { inFlight: 0, listed: 0 })
  t.ok(kept < requests * 10, `${kept} bytes are kept, less than ten per request`)
  t.equal(outcome, 'clean')
  t.ok(drainMs < 5_000, `the drain had nothing to wait for: ${drainMs} ms`)
  t.match(await child.ended, { code: 0, stderr: '' })
})

t.test('thousands of connections that are silent, idle or in the middle of a head do not delay a drain', async t => {
  // As many as the open-file limit permits, less the needs of the process itself: up to 10 000.
  const crowd = Math.min(10_000, Number(execFileSync('sh', ['-c', 'ulimit -n'], { encoding: 'utf8' }).replace('unlimited', '20000')) - 200)
  const idle = Math.floor(crowd / 4)
  const halfway = Math.floor(crowd / 4)
  const silent = crowd - idle - halfway
  const half = 'GET / HTTP/1.1\r\nHost:'
  const child = run(t, { args: [join(directory, 'test/http/fixtures/crowded.js')], cwd: directory })
  const port = Number(await child.said('port'))

  const clients: Client[] = []
  t.teardown(() => { for (const { socket } of clients) socket.destroy() })
  while (clients.length < crowd) {
    clients.push(...await Promise.all(Array.from({ length: Math.min(250, crowd - clients.length) }, () => connect(port))))
  }
  for (const client of clients.slice(0, idle)) client.send(get('/'))
  await Promise.all(clients.slice(0, idle).map(client => client.answer()))
  for (const client of clients.slice(idle, idle + halfway)) client.send(half)
  const sent = idle * get('/').length + halfway * half.length
  let seen = { accepted: 0, read: 0 }
  while (seen.read < sent) seen = JSON.parse((await fetchOnce(port, get('/crowd', { Connection: 'close' }))).body) as typeof seen
  t.ok(seen.accepted > crowd)

  const began = performance.now()
  child.kill('SIGTERM')
  const { code, at, stderr } = await child.ended
  await Promise.all(clients.map(({ over }) => over))
  const { outcome, sockets, stallMs } = JSON.parse(await child.said('report')) as { outcome: string, sockets: Record<string, number>, stallMs: number }
  t.comment(`${crowd} connections ended in ${Math.round(at - began)} ms, the longest stall was ${Math.round(stallMs)} ms`)
  t.match({ code, stderr, outcome }, { code: 0, stderr: '', outcome: 'clean' })
  t.equal(sockets.silent, silent)
  t.equal(sockets.idle! + sockets.silent! + sockets.destroyed!, crowd, 'the report counts each connection')
  t.ok(at - began < 10_000, `took ${at - began} ms`)
  t.ok(stallMs < 500, `the event loop was blocked for ${stallMs} ms`)
})

t.test('a client that sends one byte at a time (slow loris) is not waited for beyond timeouts.requests', async t => {
  const timeouts = { requests: 1_000, streams: 200, tasks: 100, resources: 100, total: 2_000 }
  const { app, report } = await serve(t, {
    options: { timeouts, newConnections: 'answer' },
    routes: app => { app.post('/upload', async () => 'uploaded') }
  })
  const each = 25
  const clients: Client[] = []
  const trickle = async (begin: string, forever: string): Promise<Client> => {
    const client = await connect(app)
    client.send(begin)
    const timer = setInterval(() => { if (client.socket.writable) client.send(forever) }, 10)
    void client.over.then(() => clearInterval(timer))
    t.teardown(() => {
      clearInterval(timer)
      client.socket.destroy()
    })
    clients.push(client)
    return client
  }
  const many = (begin: string, forever: string): Promise<Client[]> => Promise.all(Array.from({ length: each }, () => trickle(begin, forever)))
  const body = 'POST /upload HTTP/1.1\r\nHost: test\r\nContent-Type: text/plain\r\n'
  await many('GET /', 'x')
  await many('GET / HTTP/1.1\r\n', 'A: b\r\n')
  const sized = await many(`${body}Content-Length: 1000000\r\n\r\n`, 'x')
  const chunked = await many(`${body}Transfer-Encoding: chunked\r\n\r\n`, '1\r\nx\r\n')
  await eventually(() => app.shutdownState.activeRequests === 2 * each, () => app.shutdownState)

  const closed = app.close()
  await entered(app, 'draining')
  await many('GET /', 'x')
  const late = await many(`${body}Transfer-Encoding: chunked\r\n\r\n`, '1\r\nx\r\n')
  for (const answer of await Promise.all(late.map(client => client.answer()))) t.equal(answer.status, 503)
  t.equal(app.shutdownState.stats.cut, 0, 'a late request is rejected at once, before any request is cut, whatever it sends afterwards')
  await Promise.all(clients.map(({ over }) => over))
  await closed
  const { outcome, durationMs, requests } = await report
  t.ok(durationMs >= timeouts.requests - 5, 'a request with half a body has timeouts.requests')
  t.ok(durationMs < timeouts.total + 100, `took ${durationMs} ms`)
  for (const client of [...sized, ...chunked]) t.match(await client.answer(), { status: 503, headers: { 'retry-after': '10', connection: 'close' } }, 'the client gets a 503 with Retry-After')
  t.match({ outcome, cut: requests.cut.length, rejected: requests.rejected }, { outcome: 'forced', cut: 2 * each, rejected: each })
  checkStats(t, app)
})

t.test('bytes that are not HTTP get a 400 while draining, are not counted, and leave nothing behind', async t => {
  const { app, holder, release, report } = await serveHeld(t)
  const closed = app.close()
  await entered(app, 'draining')
  const { stats } = app.shutdownState
  const malformed: readonly (readonly [name: string, bytes: string | Buffer, status?: number])[] = [
    ['no head at all', 'hello\r\n\r\n'],
    ['a TLS handshake', Buffer.from('160301020001000001fc0303', 'hex')],
    ['an unknown method', get('/', {}, 'FROBNICATE')],
    ['another version', 'GET / HTTP/9.9\r\nHost: test\r\n\r\n'],
    ['NUL in the path', get('/\0')],
    ['a space before the colon', 'GET / HTTP/1.1\r\nHost : test\r\n\r\n'],
    ['a bare CR in a header', 'GET / HTTP/1.1\r\nHost: test\r\nA: b\rc\r\n\r\n'],
    ['two lengths', 'POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n'],
    ['a length beside chunks', 'POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['a length that is none', 'POST / HTTP/1.1\r\nHost: test\r\nContent-Length: -1\r\n\r\n'],
    ['no Host', 'GET / HTTP/1.1\r\n\r\n'],
    ['20 KB of head', get('/', { A: 'a'.repeat(20_000) }), 431],
    ['HTTP/2 by prior knowledge', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n']
  ]
  for (const [name, bytes, status = 400] of malformed) {
    const client = await connect(app)
    client.send(bytes)
    t.equal((await client.answer()).status, status, name)
    await client.over
  }
  t.same(app.shutdownState.stats, stats, 'none of them is counted')
  t.equal(app.shutdownState.activeRequests, 1)
  await eventually(() => connections(app) === 1, () => connections(app))

  // A request that is malformed after its head is counted, once.
  const broken = await connect(app)
  broken.send('POST /hold HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n')
  await broken.over
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  t.equal(app.shutdownState.stats.received, 2)
  release()
  t.match(await holder.answer(), { status: 200, body: 'held' })
  await closed
  t.equal((await report).outcome, 'clean')
  checkStats(t, app)
})

t.test('no option value can inject a header into a response', async t => {
  const poison = '1\r\nX-Injected: 1\r\n\r\nHTTP/1.1 200 OK\r\n' as unknown as number
  const { app, release } = await serveHeld(t, {
    options: { retryAfter: () => poison, errorResponseBuilder: () => ({ words: poison }), newConnections: 'answer' },
    // Each has a listener of its own, so that the plugin writes the 503 by hand.
    routes: app => {
      for (const event of ['upgrade', 'connect']) app.server.on(event, (_req, socket: net.Socket) => { socket.end() })
    }
  })
  const closed = app.close()
  await entered(app, 'draining')
  const upgrade = get('/', { Connection: 'Upgrade', Upgrade: 'test' })
  for (const [name, bytes] of [['a request', get('/')], ['an upgrade', upgrade], ['a CONNECT', 'CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n']] as const) {
    const client = await connect(app)
    client.send(bytes)
    const { status, headers } = await client.answer()
    t.match({ status, headers }, { status: 503, headers: { 'retry-after': '10' } }, name)
    t.notOk('x-injected' in headers, name)
    await client.over
    t.equal(client.rest, '', `${name} has one response`)
  }
  release()
  await closed
  checkStats(t, app)
})

t.test('a rejection that cannot be sent becomes a 503 with Retry-After', async t => {
  const circle: Record<string, unknown> = {}
  circle.circle = circle
  for (const [name, payload] of [['a circle', circle], ['a BigInt', 1n], ['nothing', undefined], ['a number', 1]] as const) {
    const { app, release } = await serveHeld(t, { options: { errorResponseBuilder: () => payload, newConnections: 'answer' } })
    const closed = app.close()
    await entered(app, 'draining')
    t.match(await fetchOnce(app, get('/')), { status: 503, headers: { 'retry-after': '10' } }, name)
    release()
    await closed
    checkStats(t, app)
  }
})

t.test('no value of a client or a route becomes a header or a category', async t => {
  const { app, release, report } = await serveHeld(t, {
    options: { track: 'detail', categories: { fast: 100 }, categorize: request => String(request.headers.category) },
    routes: app => {
      app.get('/poisoned', async (_request, reply) => reply.header('x-a', 'b\r\nX-Injected: 1').send('ok'))
      app.get('/state', async () => app.shutdownState)
    }
  })
  const poisoned = await fetchOnce(app, get('/poisoned'))
  t.equal(poisoned.status, 500, 'Node refuses the header')
  for (const category of ['__proto__', 'constructor', 'toString', 'fast, fast']) {
    const state = JSON.parse((await fetchOnce(app, get('/state', { Category: category }))).body) as { requests: { category: unknown }[] }
    t.ok(state.requests.every(({ category }) => category === null), category)
  }
  t.equal(({} as { fast?: unknown }).fast, undefined)
  const closed = app.close()
  await entered(app, 'draining')
  const refused = await fetchOnce(app, get('/%0d%0aX-Injected:%201', { 'X-Request-Id': '<script>' }))
  t.equal(refused.status, 503)
  t.notMatch(JSON.stringify([poisoned.headers, refused]), /injected|script/i)
  release()
  await closed
  t.match(await report, { outcome: 'failed', errors: [{ message: /categorize/ }], requests: { completed: 1, rejected: 1 } })
  checkStats(t, app)
})

function checkStats (t: Test, app: FastifyInstance): void {
  const { stats, activeRequests, activeStreams } = app.shutdownState
  t.equal(stats.received, stats.completed + stats.rejected + stats.aborted + stats.cut, 'each request is counted in exactly one way')
  t.same({ activeRequests, activeStreams }, { activeRequests: 0, activeStreams: 0 })
}

/** The connection count of Node itself. */
function connections (app: FastifyInstance): number {
  return (app.server as unknown as { _connections: number })._connections
}
