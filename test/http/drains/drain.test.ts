/** What a client meets while the server drains, byte by byte: who is answered, who is refused, and when each connection ends. */
import http2 from 'node:http2'
import net from 'node:net'
import { once } from 'node:events'
import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { connect, eventually, fetchOnce, get, portOf, post, type Answer } from '../../helpers/client'
import { createDeferred } from '../../../lib/util/deferred'
import type { ShutdownOptions } from '../../../types/index'
import { build, entered, giveLocalhostTwoAddresses, serve, serveHeld } from '../../helpers/serve'

/** How often `timed` looks whether this process gets to run, in milliseconds. */
const look = 5

/**
 * How late is too late is said of our code, and not of a machine that is busy with others: time in which this process had something
 * to do and was not let run is told apart. Where we ourselves keep the event loop from turning, that is time that we took.
 *
 * @returns milliseconds that `work` took, and those of them that were lost to others
 */
async function timed (work: () => Promise<unknown>): Promise<{ took: number, lost: number }> {
  const began = performance.now()
  let last = { at: began, cpu: cpuTime() }
  let lost = 0
  const note = (): void => {
    const now = { at: performance.now(), cpu: cpuTime() }
    lost += Math.max(0, now.at - last.at - 2 * look - (now.cpu - last.cpu))
    last = now
  }
  const timer = setInterval(note, look)
  try {
    await work()
    note()
    return { took: performance.now() - began, lost }
  } finally {
    clearInterval(timer)
  }
}

/** What this process has used, in milliseconds. */
function cpuTime (): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1_000
}

/** The server's end of the next connection. */
const accepted = async (app: FastifyInstance): Promise<net.Socket> => (await once(app.server, 'connection'))[0] as net.Socket

/** Half of something is in the server's hands once its bytes have been read. */
async function sendHalf (app: FastifyInstance, bytes: string): Promise<Awaited<ReturnType<typeof connect>>> {
  const socket = accepted(app)
  const client = await connect(app)
  const { bytesRead } = await socket
  client.send(bytes)
  const server = await socket
  await eventually(() => server.bytesRead === bytesRead + Buffer.byteLength(bytes), () => server.bytesRead)
  return client
}

/** Begin to drain, until the connections that are idle at its begin have been ended. */
async function pastIdle (app: FastifyInstance): Promise<{ closed: Promise<unknown> }> {
  const idle = await connect(app)
  idle.send(get('/nowhere'))
  await idle.answer()
  const closed = app.close()
  await idle.over
  return { closed }
}

const refused = {
  status: 503,
  headers: { 'retry-after': '10', connection: 'close' },
  body: /"code":"FST_ERR_SHUTDOWN_DRAINING"/
}

t.test('the answer in flight is whole and says close, the connection ends after it, and so does the close', async t => {
  const { app, report, holder, release } = await serveHeld(t)
  const closed = app.close()
  await entered(app, 'draining')
  release()
  t.match(await holder.answer(), { status: 200, headers: { connection: 'close' }, body: 'held' })
  t.equal(await holder.over, 'end')
  t.ok((await timed(() => closed)).took < 5_000, 'stock Fastify waits for its keepAliveTimeout of 72 s')
  t.match(await report, { outcome: 'clean', exitCode: 0, requests: { completed: 1, rejected: 0, aborted: 0, cut: [] } })
})

t.test('a request on a new connection is refused with 503, Retry-After and Connection: close', async t => {
  const { app, report, release } = await serveHeld(t)
  const port = portOf(app)
  const closed = app.close()
  await entered(app, 'draining')
  const late = await connect(port)
  late.send(get('/hold'))
  t.match(await late.answer(), refused)
  t.equal(await late.over, 'end')
  release()
  await closed
  t.match(await report, { requests: { completed: 1, rejected: 1 } })
  await t.rejects(connect(port), { code: 'ECONNREFUSED' }, 'nobody listens afterwards')
})

t.test('an answer whose headers were out before the drain began ends its connection as well', async t => {
  const source = new Readable({ read () {} })
  const { app, release } = await serveHeld(t, { routes: app => { app.get('/', (_request, reply) => reply.send(source)) } })
  const client = await connect(app)
  client.send(get('/'))
  source.push('one')
  t.match(await client.until('one'), /connection: keep-alive/i, 'too late to say anything else')
  const { closed } = await pastIdle(app)
  t.equal(app.shutdownState.activeStreams, 1)
  source.push('two')
  source.push(null)
  t.match(await client.answer(), { status: 200, body: 'onetwo' })
  t.equal(await client.over, 'end')
  t.equal(app.shutdownState.phase, 'draining', 'at once, and not with all the others')
  release()
  await closed
})

t.test('an answer that insists on keep-alive ends its connection as well', async t => {
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
  t.match(await client.answer(), { status: 200, headers: { connection: 'keep-alive' } })
  t.equal(await client.over, 'end')
  t.equal(app.shutdownState.phase, 'draining', 'at once, and not with all the others')
  release()
  await closed
})

t.test('a slow reader of 30 MB gets all of it, whoever ends idle connections meanwhile', async t => {
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
  const socket = net.connect(portOf(app), '127.0.0.1')
  t.teardown(() => socket.destroy())
  let bytes = 0
  let head = ''
  socket.on('data', (data: Buffer) => {
    if (bytes === 0) head = data.toString('latin1').split('\r\n\r\n')[0]!
    bytes += data.length
  })
  socket.pause()
  socket.write(get('/'))
  await handedOver.promise
  const closed = app.close()
  await entered(app, 'draining')
  t.equal(app.shutdownState.activeRequests, 1, 'handed over, and not yet flushed')
  // To Node the connection of an answer that was handed over is idle.
  app.server.closeIdleConnections()
  socket.resume()
  await once(socket, 'close')
  t.equal(bytes - head.length - 4, size)
  await closed
  t.match(await report, { outcome: 'clean', requests: { completed: 1, cut: [] }, sockets: { destroyed: 0 } })
})

t.test('two pipelined requests in flight are both answered, and only the last answer says close', async t => {
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

t.test('a request that is pipelined behind one in flight while draining is refused after its answer', async t => {
  const { app, holder, release, report } = await serveHeld(t)
  const closed = app.close()
  await entered(app, 'draining')
  holder.send(get('/nowhere') + get('/hold'))
  await eventually(() => app.shutdownState.activeRequests === 3, () => app.shutdownState)
  release()
  t.match(await holder.answer(), { status: 200, headers: { connection: 'keep-alive' }, body: 'held' })
  t.match(await holder.answer(), refused)
  t.equal(await holder.over, 'end')
  t.equal(holder.rest, '', 'what is pipelined behind an answer that says close is not answered (RFC 9112, section 9.6)')
  await closed
  t.match(await report, { requests: { completed: 1, rejected: 1, aborted: 1 } })
})

t.test('hundreds of connections are ended over several turns of the event loop, idle or silent', async t => {
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
    t.ok(most < many / 2, `at most ${most} at once`)
    await closed
    t.match(await report, { sockets: word === '' ? { idle: 0, silent: many, destroyed: 0 } : { idle: many, silent: 0, destroyed: 0 } })
  }
})

t.test('idle connections are ended first, while others are still served', async t => {
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

t.test('a request that is under way on an idle connection when draining begins is answered', async t => {
  const { app, release } = await serveHeld(t)
  const client = await connect(app)
  client.send(get('/nowhere'))
  await client.answer()
  app.shutdown.on('draining', () => { client.send(get('/nowhere')) })
  const closed = app.close()
  t.match(await client.answer(), refused)
  release()
  await closed
})

t.test('a head that was half sent when draining began may still come in, and gets its answer', async t => {
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
  t.match(await fresh.answer(), refused)
  t.match(await used.answer(), refused)
  release()
  await closed
})

t.test('a silent connection and half a head do not hold the close', async t => {
  const { app, report } = await serve(t)
  const silent = await connect(app)
  const half = await sendHalf(app, 'GET / HTTP/1.1\r\nHost:')
  t.ok((await timed(() => app.close())).took < 5_000, 'stock Fastify waits for ever')
  await Promise.all([silent.over, half.over])
  t.match(await report, { outcome: 'clean', sockets: { silent: 1 } })
})

t.test("half a body has its request's time, then it is cut and named", async t => {
  const { app, report } = await serve(t, {
    options: { timeouts: { requests: 300 }, track: 'detail' },
    routes: app => { app.post('/upload', async () => 'hello') }
  })
  const client = await sendHalf(app, post('/upload', 'half of it', { 'Content-Length': '100' }))
  const { took } = await timed(() => app.close())
  t.ok(took >= 290 && took < 5_000, `took ${took} ms`)
  t.match(await client.answer(), { status: 503, headers: { 'retry-after': '10', connection: 'close' } })
  await client.over
  t.match(await report, { outcome: 'forced', exitCode: 1, requests: { cut: [{ method: 'POST', route: '/upload', ageMs: Number }] } })
  t.match(app.shutdownState, { activeRequests: 0, stats: { received: 1, cut: 1 } })
})

t.test('half a body that comes in while draining is served', async t => {
  const { app, report } = await serve(t, { routes: app => { app.post('/upload', async request => request.body) } })
  const client = await sendHalf(app, post('/upload', 'half', { 'Content-Length': '8' }))
  const closed = app.close()
  await entered(app, 'draining')
  client.send('half')
  t.match(await client.answer(), { status: 200, body: 'halfhalf', headers: { connection: 'close' } })
  await closed
  t.match(await report, { outcome: 'clean', requests: { completed: 1 } })
})

t.test('whoever is refused in the middle of an upload may send the rest of it, and is not reset', async t => {
  const { app, release } = await serveHeld(t, { routes: app => { app.post('/upload', async () => 'hello') } })
  const closed = app.close()
  await entered(app, 'draining')
  const socket = net.connect({ port: portOf(app), host: '127.0.0.1', allowHalfOpen: true })
  const gone = once(socket, 'close')
  const rest = Buffer.alloc(1_000_000)
  socket.write(post('/upload', 'half of it', { 'Content-Length': String(10 + 2 * rest.length) }))
  let text = ''
  socket.setEncoding('latin1').on('data', (data: string) => { text += data })
  await once(socket, 'end')
  t.match(text, /^HTTP\/1.1 503 [^]*retry-after: /i)
  await new Promise<void>(resolve => { socket.write(rest, () => resolve()) })
  await new Promise<void>(resolve => { socket.end(rest, () => resolve()) })
  t.same(await gone, [false], 'no error')
  release()
  await closed
})

t.test('bytes that are no HTTP while draining are refused with 400 and not counted', async t => {
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

t.test('a client that leaves while draining is counted as gone, and not waited for', async t => {
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

t.test('a name with two addresses: both servers are drained, and nobody listens afterwards', async t => {
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
    t.match(await late.answer(), refused, host)
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

t.test('every kind of route is refused, whether it was there before the plugin or lies in a context of its own', async t => {
  const { app, release } = await serveHeld(t, {
    before: app => { app.get('/earlier', async () => 'hello') },
    routes: async app => {
      app.get('/later', async () => 'hello')
      await app.register(async child => {
        child.get('/child', async () => 'hello')
        await child.register(async grandchild => { grandchild.get('/grandchild', async () => 'hello') })
      }, { prefix: '/inner' })
    }
  })
  const closed = app.close()
  await entered(app, 'draining')
  for (const path of ['/earlier', '/later', '/inner/child', '/inner/grandchild', '/nowhere', '/inner/nowhere']) {
    t.match(await fetchOnce(app, get(path)), refused, path)
  }
  t.match(await fetchOnce(app, post('/later', 'x')), refused, 'a POST')
  release()
  await closed
})

t.test('HEAD, a preflight, and a route that would refuse the body are refused like any other', async t => {
  const { app, release, report } = await serveHeld(t, {
    routes: app => {
      app.get('/here', async () => 'here')
      app.post('/strict', { bodyLimit: 1, schema: { body: { type: 'object', required: ['a'] }, response: { '2xx': { type: 'object', properties: {} } } } }, async () => ({}))
    }
  })
  const closed = app.close()
  await entered(app, 'draining')
  const head = await connect(app)
  head.send(get('/here', {}, 'HEAD'))
  t.match(await head.answer(true), { status: 503, headers: { 'retry-after': '10', connection: 'close' } })
  t.equal(await head.over, 'end')
  t.equal(head.rest, '', 'an answer to HEAD has no body')
  for (const bytes of [
    get('/here', { Origin: 'http://elsewhere', 'Access-Control-Request-Method': 'GET' }, 'OPTIONS'),
    post('/strict', '{"a":"long"}', { 'Content-Type': 'application/json' }),
    post('/strict', 'no JSON', { 'Content-Type': 'application/json' })
  ]) t.match(await fetchOnce(app, bytes), refused)
  release()
  await closed
  t.match(await report, { outcome: 'clean', requests: { rejected: 4 } })
})

t.test('what the app has in front of the 503 may throw: it is told when to come back all the same', async t => {
  for (const handler of [() => { throw new Error('a bug') }, async () => { throw new Error('a bug') }]) {
    const { app, release, report } = await serveHeld(t, { routes: app => { app.setErrorHandler(handler) } })
    const closed = app.close()
    await entered(app, 'draining')
    t.match(await fetchOnce(app, get('/')), { status: 500, headers: { 'retry-after': '10', connection: 'close' } })
    release()
    await closed
    t.match(await report, { outcome: 'clean', requests: { rejected: 1 } })
  }
})

t.test('an error handler that never answers holds its own request, and not the shutdown', async t => {
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

t.test('an exempt route is served while draining, on a connection that ends after it', async t => {
  const { app, release, report } = await serveHeld(t, {
    routes: app => { app.get('/status', { config: { shutdown: { exempt: true } } }, async () => app.shutdownState) }
  })
  const closed = app.close()
  await entered(app, 'draining')
  const client = await connect(app)
  client.send(get('/status'))
  const answer = await client.answer()
  t.match(answer, { status: 200, headers: { connection: 'close' } })
  t.notOk('retry-after' in answer.headers)
  t.match(JSON.parse(answer.body), { phase: 'draining', ready: false, accepting: false, reason: { kind: 'close' }, activeRequests: 2, stats: { received: 2 } })
  t.equal(await client.over, 'end')
  release()
  await closed
  t.match(await report, { requests: { completed: 2, rejected: 0 } })
})

t.test('inject meets the same refusal', async t => {
  const { app, release } = await serveHeld(t)
  const closed = app.close()
  await entered(app, 'draining')
  const answer = await app.inject('/hold')
  t.match(answer, { statusCode: 503, headers: { 'retry-after': '10', connection: 'close' } })
  t.match(answer.json(), { statusCode: 503, code: 'FST_ERR_SHUTDOWN_DRAINING', error: 'Service Unavailable' })
  release()
  await closed
  t.match(app.shutdownState.stats, { received: 2, completed: 1, rejected: 1 })
})

t.test('inject in flight is waited for, as stock Fastify does not', async t => {
  const { app } = await serve(t, { routes: app => { app.get('/', async () => new Promise(resolve => { setTimeout(resolve, 100, 'hello') })) } })
  let answered = false
  const answer = app.inject('/').then(({ body }) => {
    answered = true
    return body
  })
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  await app.close()
  t.ok(answered)
  t.equal(await answer, 'hello')
})

t.test("a 503 that is Fastify's own carries Retry-After, too", async t => {
  for (const return503OnClosing of [true, false]) {
    await t.test(`return503OnClosing: ${return503OnClosing}`, async t => {
      let answer: Answer | undefined
      const { app } = await serve(t, {
        fastify: { return503OnClosing },
        routes: app => {
          // A slow preClose hook: Fastify is closing, and nobody listens any more. Who has a socket may still hand it over.
          app.addHook('preClose', async () => {
            const door = net.createServer(socket => { app.server.emit('connection', socket) }).listen(0, '127.0.0.1')
            await once(door, 'listening')
            answer = await fetchOnce((door.address() as net.AddressInfo).port, get('/'))
            door.close()
          })
        }
      })
      await app.close()
      t.match(answer, { status: 503, headers: { 'retry-after': '10', connection: 'close' } })
    })
  }
})

t.test('nobody listens while a slow preClose hook runs', async t => {
  let how: unknown
  const { app } = await serve(t, { routes: app => { app.addHook('preClose', async () => { how = await connect(port).catch(error => error.code) }) } })
  const port = portOf(app)
  await app.close()
  t.equal(how, 'ECONNREFUSED')
})

t.test("newConnections: 'refuse' meets new connections with a closed door from draining on", async t => {
  const { app, holder, release } = await serveHeld(t, { options: { newConnections: 'refuse' } })
  const port = portOf(app)
  const closed = app.close()
  await entered(app, 'draining')
  await t.rejects(connect(port), { code: 'ECONNREFUSED' })
  holder.send(get('/hold'))
  await eventually(() => app.shutdownState.activeRequests === 2, () => app.shutdownState)
  release()
  t.match(await holder.answer(), { status: 200 })
  t.match(await holder.answer(), refused, 'whoever is still connected gets the 503')
  await closed
})

t.test("newConnections: 'auto' answers without a lame-duck, and closes the door after one", async t => {
  for (const [delay, expected] of [[0, 503], [100, 'ECONNREFUSED']] as const) {
    const { app, release } = await serveHeld(t, { options: { delay } })
    const port = portOf(app)
    const done = app.shutdown.start()
    await entered(app, 'draining')
    const met = await fetchOnce(port, get('/')).then(({ status }) => status, error => error.code)
    t.equal(met, expected, `after a lame-duck of ${delay} ms`)
    release()
    await done
  }
})

t.test('who was accepted at the end of lame-duck and speaks only when nobody listens any more is served', async t => {
  const { app } = await serve(t, { options: { delay: 100 }, routes: app => { app.get('/', async () => 'served') } })
  const inLameDuck = entered(app, 'lame-duck')
  const closed = app.shutdown.start()
  await inLameDuck
  const late = await connect(app)
  await eventually(() => !app.server.listening, () => app.shutdownState.phase)
  late.send(get('/'))
  const answer = await late.answer()
  t.match(answer, { status: 200, body: 'served', headers: { connection: 'close' } })
  t.match(await closed, { outcome: 'clean', sockets: { silent: 0 } })
})

t.test('who was accepted in lame-duck and never speaks costs the drain a tenth of a second at most', async t => {
  const { app } = await serve(t, { options: { delay: 100 } })
  const inLameDuck = entered(app, 'lame-duck')
  const closed = app.shutdown.start()
  await inLameDuck
  await connect(app)
  const { lost } = await timed(() => closed)
  const { phases, sockets } = await closed
  t.equal(sockets.silent, 1)
  const lameDuck = phases.find(({ phase }) => phase === 'lame-duck')!
  t.ok(lameDuck.durationMs >= 195 && lameDuck.durationMs - lost < 400, `lame-duck took ${lameDuck.durationMs} ms`)
})

t.test("newConnections: 'answer' answers after a lame-duck, too", async t => {
  const { app, release } = await serveHeld(t, { options: { newConnections: 'answer', delay: 50 } })
  const done = app.shutdown.start()
  await entered(app, 'draining')
  t.match(await fetchOnce(app, get('/')), refused)
  release()
  await done
})

t.test('retryAfter is a number, a range that is used whole, or a function', async t => {
  const ask = async (retryAfter: ShutdownOptions['retryAfter'], times: number): Promise<Set<string>> => {
    const { app, release } = await serveHeld(t, { options: { retryAfter: retryAfter! } })
    const closed = app.close()
    await entered(app, 'draining')
    const seen = new Set<string>()
    for (let time = 0; time < times; time++) seen.add(String((await app.inject('/')).headers['retry-after']))
    release()
    await closed
    return seen
  }
  t.strictSame(await ask(0, 1), new Set(['0']))
  t.strictSame(await ask(120, 1), new Set(['120']))
  t.strictSame([...await ask([3, 5], 200)].sort(), ['3', '4', '5'], 'the chance to miss one of three in 200 draws is 1 in 10^35')
  t.strictSame(await ask(({ phase, activeRequests }) => phase === 'draining' ? 40 + activeRequests : 0, 1), new Set(['42']))
  t.strictSame(await ask(() => '10\r\nX: y' as unknown as number, 1), new Set(['10']), 'the default, where a function returns nonsense')
  t.strictSame(await ask(() => { throw new Error('no') }, 1), new Set(['10']), 'or throws')
})

t.test('rejection makes the body', async t => {
  const { app, release } = await serveHeld(t, { options: { errorResponseBuilder: (request, state) => ({ try: 'again', path: request.url, phase: state.phase }) } })
  const closed = app.close()
  await entered(app, 'draining')
  const answer = await fetchOnce(app, get('/some/where'))
  t.match(answer, { status: 503, headers: { 'retry-after': '10', connection: 'close' } })
  t.strictSame(JSON.parse(answer.body), { try: 'again', path: '/some/where', phase: 'draining' })
  release()
  await closed
})

t.test('a rejection may be async', async t => {
  const { app, release } = await serveHeld(t, { options: { errorResponseBuilder: async () => ({ try: 'again' }) } })
  const closed = app.close()
  await entered(app, 'draining')
  t.match(await fetchOnce(app, get('/')), { status: 503, headers: { 'retry-after': '10' }, body: '{"try":"again"}' })
  release()
  await closed
})

t.test('a rejection that throws or rejects is refused like any other', async t => {
  for (const rejection of [() => { throw new Error('no') }, async () => { throw new Error('no') }]) {
    const { app, release, report } = await serveHeld(t, { options: { errorResponseBuilder: rejection } })
    const closed = app.close()
    await entered(app, 'draining')
    t.match(await fetchOnce(app, get('/')), refused)
    release()
    await closed
    t.match(await report, { outcome: 'clean', requests: { rejected: 1 } })
  }
})

t.test("the app's own error handler says it in its own words, and finds the state", async t => {
  const { app, release } = await serveHeld(t, {
    routes: app => {
      app.setErrorHandler((error: Error & { statusCode?: number, code?: string, state?: { phase: string }, retryAfter?: number }, _request, reply) =>
        reply.code(error.statusCode ?? 500).send({ own: error.code, phase: error.state?.phase, again: error.retryAfter }))
    }
  })
  const closed = app.close()
  await entered(app, 'draining')
  const answer = await fetchOnce(app, get('/'))
  t.match(answer, { status: 503, headers: { 'retry-after': '10', connection: 'close' } })
  t.strictSame(JSON.parse(answer.body), { own: 'FST_ERR_SHUTDOWN_DRAINING', phase: 'draining', again: 10 })
  release()
  await closed
})

t.test('a stuck handler costs its own time, and is answered when that is over', async t => {
  const { app, report, holder } = await serveHeld(t, { options: { timeouts: { requests: 300, total: 1_000 } } })
  const { took, lost } = await timed(() => app.close())
  t.ok(took >= 290 && took - lost < 400, `the budget of 300 ms holds to within 100 ms: took ${took}`)
  t.match(await holder.answer(), { status: 503, headers: { 'retry-after': '10', connection: 'close' } })
  t.match(await report, { outcome: 'forced', exitCode: 1, requests: { completed: 0, cut: [{ method: 'GET', route: '/hold', ageMs: null, category: null }] } })
})

t.test('a stuck handler leaves the resources their share of the total', async t => {
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

t.test('a stuck handler, a stuck stream and a stuck resource together keep the total to within 100 ms', async t => {
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

t.test('a request over HTTP/2 that is in flight is answered', async t => {
  const { app, report } = await serve(t, {
    fastify: { http2: true },
    routes: app => { app.get('/', async () => new Promise(resolve => { setTimeout(resolve, 200, 'hello') })) }
  })
  const session = http2.connect(`http://127.0.0.1:${portOf(app)}`)
  t.teardown(() => session.destroy())
  const stream = session.request({ ':path': '/' })
  let body = ''
  stream.setEncoding('utf8').on('data', (data: string) => { body += data })
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const closed = app.close()
  await once(stream, 'close')
  t.equal(body, 'hello')
  await closed
  t.match(await report, { outcome: 'clean', requests: { completed: 1, aborted: 0 } })
})
