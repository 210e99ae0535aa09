/** HTTP/2: GOAWAY, streams and sessions. The behaviour shared with other transports is in `contract.test.ts`. */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import http2 from 'node:http2'
import net from 'node:net'
import { promisify } from 'node:util'
import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { createDeferred, type Deferred } from '../../../lib/util/deferred'
import { connect, eventually, openSession, type Http2Session, type SessionOptions } from '../../helpers/client'
import { tls, transports } from '../../helpers/transports'

const run = promisify(execFile)
const { constants } = http2
const [h2c, h2] = [transports[2]!, transports[3]!]

/** A session that is destroyed at the end of the test. */
function session (t: Test, port: number, options: SessionOptions = {}): Http2Session {
  const client = openSession(port, options)
  t.teardown(() => client.session.destroy())
  return client
}

function slow (): { readonly gate: Deferred<void>, readonly entered: Deferred<void>, routes (app: FastifyInstance): void } {
  const [gate, entered] = [createDeferred<void>(), createDeferred<void>()]
  return {
    gate,
    entered,
    routes (app) {
      app.get('/', async () => 'ok')
      app.get('/slow', async () => {
        entered.resolve()
        await gate.promise
        return 'slow'
      })
    }
  }
}

function missingTool (t: Test, tool: string, debian: string): void {
  if (process.env['REQUIRE_SERVICES'] === '1') t.fail(`${tool} is missing`)
  t.comment(`skipped: ${tool} is missing, install it with 'apt-get install ${debian}'`)
}

void t.test('GOAWAY is sent when draining begins, the streams in flight complete, and the session ends', async t => {
  const { gate, entered, routes } = slow()
  const { app, port } = await h2c.start({}, routes)
  const client = session(t, port)
  const answer = client.get('/slow')
  await entered.promise
  const closing = app.shutdown.start()
  t.equal(await client.goaway, constants.NGHTTP2_NO_ERROR)
  gate.resolve()
  t.match(await answer, { status: 200, body: 'slow', error: null })
  await client.closed
  const report = await closing
  t.same(report.http2Sessions, { closed: 1, destroyed: 0 })
  t.equal(report.outcome, 'clean')
})

void t.test('a new stream on an old session is refused with an error that permits a retry', async t => {
  const { gate, entered, routes } = slow()
  const { app, port } = await h2c.start({}, routes)
  const client = session(t, port)
  const answer = client.get('/slow')
  await entered.promise
  const closing = app.shutdown.start()
  // Sent before the client receives the GOAWAY.
  const crossing = client.get('/')
  await client.goaway
  const late = client.get('/')
  t.ok(['ERR_HTTP2_GOAWAY_SESSION', 'ERR_HTTP2_STREAM_CANCEL', `rst ${constants.NGHTTP2_REFUSED_STREAM}`].includes((await late).error ?? ''), (await late).error ?? 'answered')
  const crossed = await crossing
  t.ok(crossed.status === 503 || crossed.error === `rst ${constants.NGHTTP2_REFUSED_STREAM}`, `status ${crossed.status}, ${crossed.error}`)
  gate.resolve()
  t.equal((await answer).body, 'slow')
  await closing
})

void t.test('a client that reads its 503 slowly gets all of it', async t => {
  const { gate, entered, routes } = slow()
  const { app, port } = await h2c.start({ newConnections: 'answer' }, routes)
  const busy = session(t, port)
  const answer = busy.get('/slow')
  await entered.promise
  const closing = app.shutdown.start()
  await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
  const late = session(t, port, { settings: { initialWindowSize: 10 } })
  const stream = late.session.request({ ':path': '/' })
  const [headers] = await once(stream, 'response') as [http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader]
  t.equal(headers[':status'], 503)
  gate.resolve()
  t.equal((await answer).body, 'slow')
  // The time is the thing under test: longer than a session without an answer has.
  await new Promise(resolve => { setTimeout(resolve, 400) })
  let body = ''
  for await (const chunk of stream.setEncoding('utf8')) body += chunk
  t.match(JSON.parse(body), { statusCode: 503 })
  const report = await closing
  t.same(report.http2Sessions, { closed: 2, destroyed: 0 })
  t.equal(report.outcome, 'clean')
})

void t.test('lame-duck', async t => {
  await t.test('busy sessions get GOAWAY at once, idle sessions over the delay, and no session is refused', async t => {
    const { gate, entered, routes } = slow()
    const { app, port } = await h2c.start({ delay: 500 }, routes)
    const idle = await Promise.all(Array.from({ length: 10 }, async () => {
      const client = session(t, port)
      t.equal((await client.get('/')).status, 200)
      return client
    }))
    const busy = session(t, port)
    const answer = busy.get('/slow')
    await entered.promise
    const began = performance.now()
    const closing = app.shutdown.start()
    const order: string[] = []
    void busy.goaway.then(() => { order.push('busy') })
    for (const client of idle) void client.goaway.then(() => { order.push('idle') })
    await busy.goaway
    const told = await Promise.all(idle.map(async client => {
      await client.goaway
      return performance.now() - began
    }))
    const [first, last] = [Math.min(...told), Math.max(...told)]
    t.ok(last - first > 150, `GOAWAY was sent from ${first} to ${last} ms, not in one wave`)
    t.equal(order[0], 'busy')
    gate.resolve()
    t.equal((await answer).body, 'slow')
    t.equal((await closing).requests.rejected, 0)
  })

  await t.test('an idle session that sends a request before its turn gets GOAWAY with the response', async t => {
    const { app, port } = await h2c.start({ delay: 800 }, slow().routes)
    const idle = []
    for (let count = 0; count < 10; count++) {
      idle.push(session(t, port))
      await idle.at(-1)!.get('/')
    }
    const closing = app.shutdown.start()
    const last = idle.at(-1)!
    let before = 0
    for (const client of idle.slice(0, -1)) void client.goaway.then(() => { before++ })
    t.match(await last.get('/'), { status: 200, error: null })
    await last.goaway
    t.ok(before < idle.length / 2, `${before} sessions got GOAWAY before`)
    await closing
  })

  await t.test('a new session gets its response, and GOAWAY with it', async t => {
    const { app, port } = await h2c.start({ delay: 400 }, slow().routes)
    const closing = app.shutdown.start()
    t.equal(app.shutdownState.phase, 'lame-duck')
    const client = session(t, port)
    t.match(await client.get('/'), { status: 200, body: 'ok' })
    await client.goaway
    await client.closed
    t.equal(app.shutdownState.phase, 'lame-duck', 'GOAWAY comes before draining begins')
    t.equal((await closing).outcome, 'clean')
  })
})

void t.test('idle and silent sessions end right away', async t => {
  const { app, port } = await h2c.start({}, slow().routes)
  const idle = session(t, port)
  await idle.get('/')
  const silent = await connect(port)
  const preface = await connect(port)
  preface.send('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
  const settings = await connect(port)
  settings.send(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])]))
  await settings.until('\x00') // the SETTINGS frame of the server
  const report = await app.shutdown.start()
  await Promise.all([idle.closed, silent.over, preface.over, settings.over])
  t.ok(report.durationMs < 5_000, `took ${report.durationMs} ms`)
  t.equal(report.outcome, 'clean')
})

/** A path to the server that can be blocked. Bytes of the server then stay in its own buffers and in the kernel's. */
async function road (t: Test, port: number): Promise<{ readonly port: number, block(): void, unblock(): void }> {
  const ways = new Set<net.Socket>()
  const proxy = net.createServer({ pauseOnConnect: true }, client => {
    const server = net.connect(port, '127.0.0.1')
    ways.add(server)
    client.on('error', () => {}).pipe(server.on('error', () => {})).pipe(client)
    client.once('close', () => server.destroy())
    server.once('close', () => client.destroy())
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  t.teardown(() => {
    for (const way of ways) way.destroy()
    proxy.close()
  })
  return {
    port: (proxy.address() as net.AddressInfo).port,
    block: () => { for (const way of ways) way.pause() },
    unblock: () => { for (const way of ways) way.resume() }
  }
}

/** A response whose stream is closed on the server before its bytes are sent. */
async function flooded (t: Test, options: object, size = 30_000_000): Promise<{ readonly app: FastifyInstance, readonly length: () => number, readonly closed: Promise<unknown>, unblock(): void }> {
  const { app, port } = await h2c.start(options, app => { app.get('/big', async () => Buffer.alloc(size, 'x')) })
  const way = await road(t, port)
  const client = session(t, way.port, { settings: { initialWindowSize: 2 ** 31 - 1 } })
  await once(client.session, 'connect')
  client.session.setLocalWindowSize(2 ** 31 - 1)
  await once(client.session, 'localSettings')
  const stream = client.session.request({ ':path': '/big' })
  let length = 0
  stream.on('data', (chunk: Buffer) => { length += chunk.length }).on('error', () => {})
  await once(stream, 'response')
  way.block()
  return { app, length: () => length, closed: once(stream, 'close'), unblock: way.unblock }
}

void t.test('a reader that pauses for longer than closing a session may take still receives everything', async t => {
  const { app, length, closed, unblock } = await flooded(t, {})
  const closing = app.shutdown.start()
  // The time is the thing under test: the pause is longer than the time of a session with a 503.
  setTimeout(unblock, 2_500)
  await closed
  t.equal(length(), 30_000_000)
  const report = await closing
  t.equal(report.outcome, 'clean')
  t.same(report.http2Sessions, { closed: 1, destroyed: 0 })
})

void t.test('an answer that was over before the shutdown, and that its client still reads, arrives whole', async t => {
  const { app, length, closed, unblock } = await flooded(t, {}, 1_000_000)
  await eventually(() => app.shutdownState.stats.completed === 1, () => app.shutdownState)
  const closing = app.shutdown.start()
  setTimeout(unblock, 2_500)
  await closed
  t.equal(length(), 1_000_000)
  t.match(await closing, { outcome: 'clean', http2Sessions: { closed: 1, destroyed: 0 } })
})

void t.test('a session whose client never reads is destroyed in time, and counted in the report', async t => {
  const { app } = await flooded(t, { timeouts: { requests: 300, streams: 300 } })
  const report = await app.shutdown.start()
  t.ok(report.durationMs >= 299 && report.durationMs < 5_000, `took ${report.durationMs} ms`)
  t.equal(report.outcome, 'forced')
  t.same(report.http2Sessions, { closed: 0, destroyed: 1 })
})

void t.test('endless streams are cut at timeouts.streams with CANCEL, each separately', async t => {
  const { gate, entered, routes } = slow()
  const { app, port } = await h2c.start({ timeouts: { streams: 200 } }, app => {
    routes(app)
    app.get('/endless', (_request, reply) => {
      const source = new Readable({ read () {} })
      source.push('begun')
      return reply.send(source)
    })
  })
  const client = session(t, port)
  const endless = client.get('/endless')
  const answer = client.get('/slow')
  await entered.promise
  await eventually(() => app.shutdownState.activeStreams === 1, () => app.shutdownState)
  const closing = app.shutdown.start()
  t.match(await endless, { status: 200, body: 'begun', error: `rst ${constants.NGHTTP2_CANCEL}` })
  gate.resolve()
  t.match(await answer, { status: 200, body: 'slow', error: null }, 'the neighbour stream on the same session continues')
  const report = await closing
  t.same(report.streams, { ended: 0, cut: 1 })
  t.same(report.http2Sessions, { closed: 1, destroyed: 0 })
})

void t.test('trailers arrive', async t => {
  const { gate, entered } = slow()
  const { app, port } = await h2c.start({}, app => {
    app.get('/', async (_request, reply) => {
      entered.resolve()
      await gate.promise
      reply.trailer('x-sum', async () => '42')
      return Readable.from(['a', 'b'])
    })
  })
  const client = session(t, port)
  const answer = client.get('/')
  await entered.promise
  const closing = app.shutdown.start()
  await client.goaway
  gate.resolve()
  t.match(await answer, { status: 200, body: 'ab', error: null, trailers: { 'x-sum': '42' } })
  t.equal((await closing).outcome, 'clean')
})

void t.test('a session whose own methods throw delays no other, and is named in the report', async t => {
  const sabotaged = new Set<string>()
  const { app, port } = await h2c.start({ timeouts: { total: 1_000, resources: 200 } }, app => { app.get('/', async () => 'hello') })
  const methods = ['goaway', 'close'] as const
  app.server.on('session' as 'connection', (session: object) => {
    const method = methods[sabotaged.size]
    if (method === undefined) return
    sabotaged.add(method)
    Object.assign(session, { [method] () { throw new Error(`no ${method}`) } })
  })
  const sessions = Array.from({ length: 5 }, () => session(t, port))
  for (const each of sessions) t.equal((await each.get('/')).status, 200)
  const report = await app.shutdown.start()
  await Promise.all(sessions.map(({ closed }) => closed))
  t.match(report, { outcome: 'failed', exitCode: 1, http2Sessions: { closed: 3 } })
  t.ok(report.errors.some(({ message }) => message.endsWith('no goaway')), report.errors.map(({ message }) => message).join('; '))
})

void t.test('one request is cut by its id, and its session stays open', async t => {
  const { gate, entered, routes } = slow()
  const { app, port } = await h2c.start({ track: 'detail' }, routes)
  const client = session(t, port)
  const answer = client.get('/slow')
  await entered.promise
  const [inFlight] = app.shutdownState.requests()
  t.match(inFlight, { method: 'GET', route: '/slow', kind: 'request' })
  t.ok(app.shutdown.cut(inFlight!.id))
  t.notOk(app.shutdown.cut('nobody'))
  t.match(await answer, { status: 503, headers: { 'retry-after': '10' } })
  t.equal((await client.get('/')).status, 200)
  gate.resolve()
  t.match(app.shutdownState.stats, { received: 2, completed: 1, cut: 1 })
  await app.close()
})

void t.test('real clients', async t => {
  await t.test('curl receives its responses over h2c and over TLS', async t => {
    for (const [transport, args] of [[h2c, ['--http2-prior-knowledge', 'http://127.0.0.1']], [h2, ['--http2', '--insecure', 'https://127.0.0.1']]] as const) {
      const { gate, entered, routes } = slow()
      const { app, port } = await transport.start({ newConnections: 'answer' }, routes)
      const curl = async (path: string): Promise<string> => (await run('curl', ['-sS', '-i', ...args.slice(0, -1), `${args.at(-1)}:${port}${path}`])).stdout
      const answer = curl('/slow').catch((error: NodeJS.ErrnoException) => error)
      const missing = await Promise.race([answer, entered.promise.then(() => null)])
      if (missing !== null) {
        await app.close()
        return missingTool(t, 'curl with HTTP/2', 'curl')
      }
      const closing = app.shutdown.start()
      await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
      t.match(await curl('/'), /^HTTP\/2 503[^]*retry-after: 10\r\n/)
      gate.resolve()
      t.match(await answer, /^HTTP\/2 200[^]*slow$/)
      t.equal((await closing).outcome, 'clean')
    }
  })

  await t.test('h2load gets a response to every stream that it began, and every session ends', async t => {
    const { app, port } = await h2c.start({ delay: 500 }, slow().routes)
    const load = run('h2load', ['-D', '3', '-c', '4', '-m', '4', `http://127.0.0.1:${port}/`]).catch((error: NodeJS.ErrnoException) => error)
    const missing = await Promise.race([load, eventually(() => app.shutdownState.stats.received > 200, () => app.shutdownState).then(() => null)])
    if (missing !== null) {
      await app.close()
      return missingTool(t, 'h2load', 'nghttp2-client')
    }
    const report = await app.shutdown.start()
    t.match(await load, { stdout: /status codes: [1-9]\d* 2xx, 0 3xx, 0 4xx, 0 5xx/ })
    t.equal(report.outcome, 'clean')
    const { stats } = app.shutdownState
    t.equal(stats.received, stats.completed + stats.rejected + stats.aborted + stats.cut)
    t.equal(stats.rejected, 0)
    t.ok(report.durationMs < 2_000, `took ${report.durationMs} ms`)
  })
})

void t.test('an unfinished TLS handshake does not delay the drain', async t => {
  const { app, port } = await h2.start()
  const silent = await connect(port)
  const half = await connect(port)
  half.send(Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00]))
  const client = session(t, port, { ca: tls.cert })
  await once(client.session, 'connect')
  const report = await app.shutdown.start()
  await Promise.all([silent.over, half.over])
  t.ok(report.durationMs < 5_000, `took ${report.durationMs} ms`)
  t.equal(report.outcome, 'clean')
})
