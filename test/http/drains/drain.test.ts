/** What an HTTP/1 client receives while the server drains, byte by byte, and when each connection ends. */
import type net from 'node:net'
import { once } from 'node:events'
import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { createDeferred } from '../../../lib/util/deferred'
import { connect, eventually, get, openSession, portOf, post } from '../../helpers/client'
import { build, entered, giveLocalhostTwoAddresses, rejected, serve, serveHeld } from '../../helpers/serve'
import { timed } from '../../helpers/timed'

/** The server's side of the next connection. */
const accepted = async (app: FastifyInstance): Promise<net.Socket> => (await once(app.server, 'connection'))[0] as net.Socket

/** Sends the bytes, and resolves once the server has read them. */
async function sendHalf (app: FastifyInstance, bytes: string): Promise<Awaited<ReturnType<typeof connect>>> {
  const socket = accepted(app)
  const client = await connect(app)
  const { bytesRead } = await socket
  client.send(bytes)
  const server = await socket
  await eventually(() => server.bytesRead === bytesRead + Buffer.byteLength(bytes), () => server.bytesRead)
  return client
}

/** Starts a drain, and resolves once it has ended the idle connections. */
async function pastIdle (app: FastifyInstance): Promise<{ closed: Promise<unknown> }> {
  const idle = await connect(app)
  idle.send(get('/nowhere'))
  await idle.answer()
  const closed = app.close()
  await idle.over
  return { closed }
}

t.test('a response in flight is complete and carries Connection: close, then the connection and the server close', async t => {
  const { app, report, holder, release } = await serveHeld(t)
  const closed = app.close()
  await entered(app, 'draining')
  release()
  t.match(await holder.answer(), { status: 200, headers: { connection: 'close' }, body: 'held' })
  t.equal(await holder.over, 'end')
  t.ok((await timed(() => closed)).took < 5_000, 'stock Fastify waits for its keepAliveTimeout of 72 s')
  t.match(await report, { outcome: 'clean', exitCode: 0, requests: { completed: 1, rejected: 0, aborted: 0, cut: [] } })
})

t.test('a request on a new connection is rejected with 503, Retry-After and Connection: close', async t => {
  const { app, report, release } = await serveHeld(t)
  const port = portOf(app)
  const closed = app.close()
  await entered(app, 'draining')
  const late = await connect(port)
  late.send(get('/hold'))
  t.match(await late.answer(), rejected)
  t.equal(await late.over, 'end')
  release()
  await closed
  t.match(await report, { requests: { completed: 1, rejected: 1 } })
  await t.rejects(connect(port), { code: 'ECONNREFUSED' }, 'the port refuses connections afterwards')
})

t.test('a response whose headers were sent before draining began closes its connection as well', async t => {
  const source = new Readable({ read () {} })
  const { app, release } = await serveHeld(t, { routes: app => { app.get('/', (_request, reply) => reply.send(source)) } })
  const client = await connect(app)
  client.send(get('/'))
  source.push('one')
  t.match(await client.until('one'), /connection: keep-alive/i, 'the headers are sent already')
  const { closed } = await pastIdle(app)
  t.equal(app.shutdownState.activeStreams, 1)
  source.push('two')
  source.push(null)
  t.match(await client.answer(), { status: 200, body: 'onetwo' })
  t.equal(await client.over, 'end')
  t.equal(app.shutdownState.phase, 'draining', 'the connection ends at once, not at the end of draining')
  release()
  await closed
})

t.test('a route that sets Connection: keep-alive closes its connection as well', async t => {
  const gate = createDeferred<void>()
  const { app, release } = await serveHeld(t, {
    routes: app => {
      app.get('/', async (_request, reply) => {
        await gate.promise
        return reply.header('connection', 'keep-alive').send('hello')
      })
    }
  })
  const client = await connect(app)
  client.send(get('/'))
  await eventually(() => app.shutdownState.activeRequests === 2, () => app.shutdownState)
  const { closed } = await pastIdle(app)
  gate.resolve()
  t.match(await client.answer(), { status: 200, headers: { connection: 'close' } })
  t.equal(await client.over, 'end')
  t.equal(app.shutdownState.phase, 'draining', 'the connection ends at once, not at the end of draining')
  release()
  await closed
})

t.test('a slow reader receives all of its 30 MB, even if idle connections are closed meanwhile', async t => {
  const size = 30_000_000
  const handedOver = createDeferred<void>()
  const { app, report } = await serve(t, {
    routes: app => {
      app.get('/', (_request, reply) => {
        void reply.send(Buffer.alloc(size, 'x'))
        handedOver.resolve()
      })
    }
  })
  const client = await connect(app)
  t.teardown(() => client.socket.destroy())
  client.socket.pause()
  client.send(get('/'))
  await handedOver.promise
  const closed = app.close()
  await entered(app, 'draining')
  t.equal(app.shutdownState.activeRequests, 1, 'the response is written, and not yet flushed')
  // To Node, a connection is idle as soon as its response has been written.
  app.server.closeIdleConnections()
  client.socket.resume()
  await client.over
  t.equal(client.rest.length - client.rest.indexOf('\r\n\r\n') - 4, size)
  await closed
  t.match(await report, { outcome: 'clean', requests: { completed: 1, cut: [] }, sockets: { destroyed: 0 } })
})

t.test('two pipelined requests in flight are both answered, and only the last response carries Connection: close', async t => {
  const { app, holder, release } = await serveHeld(t)
  holder.send(get('/hold'))
  await eventually(() => app.shutdownState.activeRequests === 2, () => app.shutdownState)
  const closed = app.close()
  await entered(app, 'draining')
  release()
  t.match(await holder.answer(), { status: 200, headers: { connection: 'keep-alive' } })
  t.match(await holder.answer(), { status: 200, headers: { connection: 'close' } })
  t.equal(await holder.over, 'end')
  await closed
})

t.test('a request that is pipelined behind a request in flight while draining gets its 503 after that response', async t => {
  const { app, holder, release, report } = await serveHeld(t)
  const closed = app.close()
  await entered(app, 'draining')
  holder.send(get('/nowhere') + get('/hold'))
  await eventually(() => app.shutdownState.activeRequests === 3, () => app.shutdownState)
  release()
  t.match(await holder.answer(), { status: 200, headers: { connection: 'keep-alive' }, body: 'held' })
  t.match(await holder.answer(), rejected)
  t.equal(await holder.over, 'end')
  t.equal(holder.rest, '', 'a request pipelined behind a response with Connection: close is not answered (RFC 9112, section 9.6)')
  await closed
  t.match(await report, { requests: { completed: 1, rejected: 1, aborted: 1 } })
})

t.test('hundreds of idle or silent connections are ended over several turns of the event loop', async t => {
  const many = 600
  for (const word of [get('/nowhere'), '']) {
    const { app, report } = await serve(t)
    const sockets: net.Socket[] = []
    app.server.on('connection', socket => sockets.push(socket))
    const clients = await Promise.all(Array.from({ length: many }, async () => await connect(app)))
    for (const client of clients) client.send(word)
    if (word !== '') await Promise.all(clients.map(async client => await client.answer()))
    await eventually(() => sockets.length === many, () => sockets.length)
    const closed = app.close()
    let before = 0
    let most = 0
    for (let gone = 0; gone < many; before = gone) {
      await new Promise(setImmediate)
      gone = sockets.filter(({ destroyed }) => destroyed).length
      most = Math.max(most, gone - before)
    }
    t.ok(most < many / 2, `at most ${most} connections end in one turn`)
    await closed
    t.match(await report, { sockets: word === '' ? { idle: 0, silent: many, destroyed: 0 } : { idle: many, silent: 0, destroyed: 0 } })
  }
})

t.test('idle connections are ended first, while requests in flight are still served', async t => {
  const { app, release, report } = await serveHeld(t)
  const idle = await connect(app)
  idle.send(get('/nowhere'))
  await idle.answer()
  const closed = app.close()
  t.equal(await idle.over, 'end')
  t.match(app.shutdownState, { phase: 'draining', activeRequests: 1 })
  release()
  await closed
  t.match(await report, { sockets: { idle: 1, silent: 0, destroyed: 0 } })
})

t.test('a request on an idle connection that is in the network when draining begins is answered', async t => {
  const { app, release } = await serveHeld(t)
  const client = await connect(app)
  client.send(get('/nowhere'))
  await client.answer()
  app.shutdown.on('draining', () => { client.send(get('/nowhere')) })
  const closed = app.close()
  t.match(await client.answer(), rejected)
  release()
  await closed
})

t.test('a head that was half sent when draining began may still arrive, and gets its response', async t => {
  const { app, release } = await serveHeld(t)
  const fresh = await sendHalf(app, 'GET /nowhere HTTP/1.1\r\nHost:')
  const socket = accepted(app)
  const used = await connect(app)
  used.send(get('/nowhere'))
  await used.answer()
  const { bytesRead } = await socket
  used.send('GET /nowhere HTTP/1.1\r\nHost:')
  const server = await socket
  await eventually(() => server.bytesRead > bytesRead, () => server.bytesRead)
  const idle = await connect(app)
  idle.send(get('/nowhere'))
  await idle.answer()
  const closed = app.close()
  await idle.over
  fresh.send(' test\r\n\r\n')
  used.send(' test\r\n\r\n')
  t.match(await fresh.answer(), rejected)
  t.match(await used.answer(), rejected)
  release()
  await closed
})

t.test('a silent connection and half a head do not delay the drain', async t => {
  const { app, report } = await serve(t)
  const silent = await connect(app)
  const half = await sendHalf(app, 'GET / HTTP/1.1\r\nHost:')
  t.ok((await timed(() => app.close())).took < 5_000, 'stock Fastify never closes')
  await Promise.all([silent.over, half.over])
  t.match(await report, { outcome: 'clean', sockets: { silent: 1 } })
})

t.test('a request with half a body is cut at timeouts.requests and named in the report', async t => {
  const { app, report } = await serve(t, {
    options: { timeouts: { requests: 300 }, track: 'detail' },
    routes: app => { app.post('/upload', async () => 'hello') }
  })
  const client = await sendHalf(app, post('/upload', 'half of it', { 'Content-Length': '100' }))
  const { took } = await timed(() => app.close())
  t.ok(took >= 290 && took < 5_000, `took ${took} ms`)
  t.match(await client.answer(), { status: 503, headers: { 'retry-after': '10', connection: 'close' } })
  await client.over
  t.match(await report, { outcome: 'forced', exitCode: 0, requests: { cut: [{ method: 'POST', route: '/upload', ageMs: Number, waitsFor: 'client' }] } })
  t.match(app.shutdownState, { activeRequests: 0, stats: { received: 1, cut: 1 } })
})

t.test('a request whose body completes while draining is served', async t => {
  const { app, report } = await serve(t, { routes: app => { app.post('/upload', async request => request.body) } })
  const client = await sendHalf(app, post('/upload', 'half', { 'Content-Length': '8' }))
  const closed = app.close()
  await entered(app, 'draining')
  client.send('half')
  t.match(await client.answer(), { status: 200, body: 'halfhalf', headers: { connection: 'close' } })
  await closed
  t.match(await report, { outcome: 'clean', requests: { completed: 1 } })
})

t.test('a client that is rejected in the middle of an upload can send the rest of it, and is not reset', async t => {
  const { app, release } = await serveHeld(t, { routes: app => { app.post('/upload', async () => 'hello') } })
  const closed = app.close()
  await entered(app, 'draining')
  const client = await connect(app, { allowHalfOpen: true })
  const { socket } = client
  const rest = Buffer.alloc(1_000_000)
  client.send(post('/upload', 'half of it', { 'Content-Length': String(10 + 2 * rest.length) }))
  await once(socket, 'end')
  t.match(client.rest, /^HTTP\/1.1 503 [^]*retry-after: /i)
  await new Promise<void>(resolve => { socket.write(rest, () => resolve()) })
  await new Promise<void>(resolve => { socket.end(rest, () => resolve()) })
  t.equal(await client.over, 'end', 'no error')
  release()
  await closed
})

t.test('bytes that are not HTTP get a 400 while draining and are not counted', async t => {
  const { app, release } = await serveHeld(t)
  const closed = app.close()
  await entered(app, 'draining')
  const client = await connect(app)
  client.send('hello\r\n\r\n')
  t.match(await client.answer(), { status: 400 })
  await client.over
  release()
  await closed
  t.match(app.shutdownState.stats, { received: 1, completed: 1 })
})

t.test('a client that leaves while draining is counted as aborted, and delays nothing', async t => {
  const { app, report } = await serve(t, { routes: app => { app.get('/', async request => new Promise(resolve => { request.raw.socket.once('close', resolve) })) } })
  const client = await connect(app)
  client.send(get('/'))
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const closed = app.close()
  await entered(app, 'draining')
  client.socket.resetAndDestroy()
  await closed
  t.match(await report, { outcome: 'clean', requests: { completed: 0, aborted: 1, cut: [] } })
})

t.test('both servers of a name with two addresses are drained, and refuse connections afterwards', async t => {
  giveLocalhostTwoAddresses(t)
  const gate = createDeferred<void>()
  const { app, report } = await build(t, {
    routes: app => {
      app.get('/hold', async () => {
        await gate.promise
        return 'held'
      })
    }
  })
  await app.listen({ port: 0, host: 'localhost' })
  const port = portOf(app)
  const [first, second, idle] = [await connect(port, '127.0.0.1'), await connect(port, '127.0.0.2'), await connect(port, '127.0.0.2')]
  idle.send(get('/'))
  await idle.answer()
  first.send(get('/hold'))
  second.send(get('/hold'))
  await eventually(() => app.shutdownState.activeRequests === 2, () => app.shutdownState)

  const closed = app.close()
  t.equal(await idle.over, 'end')
  t.equal(app.shutdownState.phase, 'draining')
  for (const host of ['127.0.0.1', '127.0.0.2']) {
    const late = await connect(port, host)
    late.send(get('/hold'))
    t.match(await late.answer(), rejected, host)
  }
  gate.resolve()
  for (const client of [first, second]) {
    t.match(await client.answer(), { status: 200, headers: { connection: 'close' }, body: 'held' })
    t.equal(await client.over, 'end')
  }
  await closed
  for (const host of ['127.0.0.1', '127.0.0.2']) await t.rejects(connect(port, host), { code: 'ECONNREFUSED' }, host)
  t.match(await report, { outcome: 'clean', requests: { completed: 2, rejected: 2 } })
})

t.test('an error handler that never responds delays its own request, not the shutdown', async t => {
  const { app, release, report } = await serveHeld(t, { options: { timeouts: { requests: 200, streams: 200, tasks: 200, resources: 200, total: 700 } }, routes: app => { app.setErrorHandler(() => {}) } })
  const closed = app.close()
  await entered(app, 'draining')
  const client = await connect(app)
  client.send(get('/'))
  await eventually(() => app.shutdownState.stats.received === 2, () => app.shutdownState)
  release()
  await closed
  await client.over
  const { durationMs } = await report
  t.ok(durationMs < 2_000, `took ${durationMs} ms`)
})

t.test('the drain waits for inject() in flight, unlike stock Fastify', async t => {
  const gate = createDeferred<string>()
  const { app } = await serve(t, { routes: app => { app.get('/', async () => gate.promise) } })
  let answered = false
  const answer = app.inject('/').then(({ body }) => {
    answered = true
    return body
  })
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const closed = app.close().then(() => answered)
  await entered(app, 'draining')
  gate.resolve('hello')
  t.ok(await closed)
  t.equal(await answer, 'hello')
})

t.test('a stuck handler is cut at its own timeout, and gets its response then', async t => {
  const { app, report, holder } = await serveHeld(t, { options: { timeouts: { requests: 300, total: 1_000 } } })
  const { took, lost } = await timed(() => app.close())
  t.ok(took >= 290 && took - lost < 400, `the limit of 300 ms holds to within 100 ms: took ${took}`)
  t.match(await holder.answer(), { status: 503, headers: { 'retry-after': '10', connection: 'close' } })
  t.match(await report, { outcome: 'forced', exitCode: 1, requests: { completed: 0, cut: [{ method: 'GET', route: '/hold', ageMs: null, category: null }] } })
})

t.test('a stuck handler leaves the resources their share of the total timeout', async t => {
  let left = 0
  const { app, report } = await serveHeld(t, {
    options: {
      timeouts: { requests: 600, resources: 300, total: 600 },
      resources: { database: { close: () => { left = app.shutdownState.remaining } } }
    }
  })
  const { took, lost } = await timed(() => app.close())
  t.ok(took - lost < 700, `took ${took} ms`)
  t.ok(left > 200, `${left} ms were left`)
  t.match(await report, { resources: [{ name: 'database', outcome: 'closed' }] })
})

t.test('a stuck handler, a stuck stream and a stuck resource together keep the total timeout to within 100 ms', async t => {
  const { app, report } = await serveHeld(t, {
    options: {
      timeouts: { requests: 900, streams: 900, tasks: 900, resources: 400, total: 900 },
      resources: { database: { close: async () => new Promise(() => {}) } }
    },
    routes: app => {
      app.get('/stream', (_request, reply) => {
        const source = new Readable({ read () {} })
        source.push('one')
        return reply.send(source)
      })
    }
  })
  const stream = await connect(app)
  stream.send(get('/stream'))
  await stream.until('one')
  const { took, lost } = await timed(() => app.close().catch(() => {}))
  t.ok(took - lost < 1_000, `took ${took} ms`)
  await stream.over
  t.match(await report, { outcome: 'failed', exitCode: 1, requests: { cut: { length: 1 } }, streams: { cut: 1 }, resources: [{ outcome: 'abandoned' }] })
})

t.test('a request in flight over HTTP/2 is answered', async t => {
  const gate = createDeferred<string>()
  const { app, report } = await serve(t, { fastify: { http2: true }, routes: app => { app.get('/', async () => gate.promise) } })
  const client = openSession(app)
  t.teardown(() => client.session.destroy())
  const response = client.get('/')
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const closed = app.close()
  await entered(app, 'draining')
  gate.resolve('hello')
  t.equal((await response).body, 'hello')
  await closed
  t.match(await report, { outcome: 'clean', requests: { completed: 1, aborted: 0 } })
})
