/** Requests with bodies, and pipelined requests. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import http from 'node:http'
import type http2 from 'node:http2'
import type { Socket } from 'node:net'
import { Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import * as undici from 'undici'
import type gracefulShutdown from '../../lib/index'
import type { ShutdownReport } from '../../types/index'
import { createDeferred, type Deferred } from '../../lib/util/deferred'
import { connect, eventually, get, openSession, post, type Client } from '../helpers/client'
import { tls, transports, type Transport } from '../helpers/transports'

const size = 50_000_000

/** A server that drains until `release()` is called. */
async function draining (options: gracefulShutdown.Options = {}, routes: (app: FastifyInstance) => void = () => {}, transport: Transport = transports[0]!): Promise<{ readonly app: FastifyInstance, readonly port: number, release(): Promise<ShutdownReport> }> {
  const { app, port } = await transport.start({ newConnections: 'answer', ...options }, app => {
    app.addContentTypeParser('application/octet-stream', (_request, _payload, done) => { done(null) })
    app.post('/upload', { bodyLimit: 2 * size }, async () => 'taken')
    routes(app)
  })
  const hold = createDeferred<void>()
  app.shutdown.waitUntil(hold.promise)
  const closing = app.shutdown.start()
  await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
  return {
    app,
    port,
    async release () {
      hold.resolve()
      return await closing
    }
  }
}

/** Sends everything it can before it reads a byte, as many clients do. Resolves to what it read and to how it ended. */
async function uploadFirst (client: Client, headers: string): Promise<{ readonly answer: string, readonly sent: boolean, readonly end: 'end' | 'reset' }> {
  const { socket, over } = client
  socket.pause()
  client.send(`POST /upload HTTP/1.1\r\nHost: test\r\nContent-Type: application/octet-stream\r\n${headers}\r\n`)
  const chunk = Buffer.alloc(1_000_000)
  let sent = 0
  while (sent < size && !socket.destroyed) {
    sent += chunk.length
    if (!socket.write(chunk)) await Promise.race([new Promise(resolve => { socket.once('drain', resolve) }), over])
  }
  socket.resume()
  const end = await over
  return { answer: client.rest, sent: sent === size, end }
}

for (const [name, transport, options] of [
  ['HTTP', transports[0]!, {}],
  ['HTTPS', transports[1]!, { host: 'localhost', ca: tls.cert }]
] as const) {
  void t.test(`a 503 reaches a client that is still sending 50 MB, over ${name}`, async t => {
    const rounds = name === 'HTTP' ? 20 : 3
    const { app, port, release } = await draining({}, () => {}, transport)
    let read = 0
    for (let round = 0; round < rounds; round++) {
      const { answer, end } = await uploadFirst(await connect(port, options), `Content-Length: ${size}\r\n`)
      if (/^HTTP\/1\.1 503 (?=[^]*retry-after: 10\r\n)(?=[^]*connection: close\r\n)[^]*FST_ERR_SHUTDOWN_DRAINING/i.test(answer) && end === 'end') read++
      else t.comment(`round ${round}: ${end}, read ${JSON.stringify(answer.slice(0, 200))}`)
    }
    t.equal(read, rounds, 'each client read its response, and was not reset')
    const report = await release()
    t.equal(report.requests.rejected, rounds)
    t.equal(app.shutdownState.activeRequests, 0)
    t.equal(report.outcome, 'clean')
  })
}

/** Each sends 50 MB in its own way, and resolves to the status, Retry-After, and the start of the body. */
type Sent = readonly [status: number, retryAfter: string | null | undefined, body: string]
const clients: Readonly<Record<string, (port: number) => Promise<Sent>>> = {
  async undici (port) {
    const { statusCode, headers, body } = await undici.request(`http://127.0.0.1:${port}/upload`, { method: 'POST', headers: octets, body: Buffer.alloc(size) })
    return [statusCode, headers['retry-after'] as string, await body.text()]
  },
  async 'undici with a stream' (port) {
    const { statusCode, headers, body } = await undici.request(`http://127.0.0.1:${port}/upload`, { method: 'POST', headers: octets, body: megabytes() })
    return [statusCode, headers['retry-after'] as string, await body.text()]
  },
  async fetch (port) {
    const res = await fetch(`http://127.0.0.1:${port}/upload`, { method: 'POST', headers: octets, body: Buffer.alloc(size) })
    return [res.status, res.headers.get('retry-after'), await res.text()]
  },
  async 'node:http' (port) {
    const request = http.request({ port, host: '127.0.0.1', path: '/upload', method: 'POST', headers: octets })
    megabytes().pipe(request)
    const [res] = await once(request, 'response') as [http.IncomingMessage]
    return [res.statusCode!, res.headers['retry-after'], (await res.setEncoding('utf8').toArray()).join('')]
  },
  async 'node:http2' (port) {
    const { session, request } = openSession(port)
    const stream = request({ ':method': 'POST', ':path': '/upload', ...octets })
    megabytes().pipe(stream)
    const [headers] = await once(stream, 'response') as [http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader]
    const body = (await stream.setEncoding('utf8').toArray()).join('')
    session.destroy()
    return [headers[':status']!, headers['retry-after'], body]
  },
  curl: async port => await curl(port),
  'curl without Expect': async port => await curl(port, '-H', 'Expect:'),
  'curl in chunks': async port => await curl(port, '-H', 'Expect:', '-H', 'Transfer-Encoding: chunked'),
  'curl over HTTP/2': async port => await curl(port, '--http2-prior-knowledge')
}
const octets = { 'content-type': 'application/octet-stream' }

function megabytes (): Readable {
  return Readable.from((function * () { for (let sent = 0; sent < size; sent += 1_000_000) yield Buffer.alloc(1_000_000) })())
}

async function curl (port: number, ...args: readonly string[]): Promise<Sent> {
  const child = spawn('curl', ['-sS', '-i', ...args, '-H', 'Content-Type: application/octet-stream', '--data-binary', '@-', `http://127.0.0.1:${port}/upload`])
  const ended = once(child, 'close')
  megabytes().on('error', () => {}).pipe(child.stdin).on('error', () => {})
  const answer = (await child.stdout.setEncoding('latin1').toArray()).join('')
  await ended
  const [, status, retryAfter] = /^HTTP\/[\d.]+ (\d+)[^]*^retry-after: (\d+)\r$/im.exec(answer) ?? []
  return [Number(status), retryAfter, answer.slice(answer.indexOf('\r\n\r\n') + 4)]
}

void t.test('a 503 reaches real clients that send 50 MB', async t => {
  const hasCurl = spawnSync('curl', ['--version'], { encoding: 'utf8' }).stdout?.includes('HTTP2') === true
  for (const [name, send] of Object.entries(clients)) {
    if (name.startsWith('curl') && !hasCurl) {
      if (process.env['REQUIRE_SERVICES'] === '1') t.fail('curl with HTTP/2 is missing')
      else t.comment(`skipped: ${name}, which is missing`)
      continue
    }
    const { port, release } = await draining({}, () => {}, transports[name.endsWith('2') ? 2 : 0]!)
    for (let round = 0; round < 3; round++) t.match(await send(port), [503, '10', /FST_ERR_SHUTDOWN_DRAINING/], name)
    t.match(await release(), { outcome: 'clean', requests: { rejected: 3 } })
  }
  await undici.getGlobalDispatcher().close()
})

void t.test('a client that never stops sending is not waited for longer than the linger time', async t => {
  const { port, release } = await draining()
  const client = await connect(port)
  client.send(`POST /upload HTTP/1.1\r\nHost: test\r\nContent-Type: application/octet-stream\r\nContent-Length: ${size}\r\n\r\n`)
  const drip = setInterval(() => client.send('x'), 10)
  t.teardown(() => clearInterval(drip))
  t.equal((await client.answer()).status, 503)
  const began = performance.now()
  const report = await release()
  clearInterval(drip)
  t.ok(performance.now() - began < 10_000, `took ${performance.now() - began} ms`)
  t.equal(report.outcome, 'clean')
  await client.over
})

void t.test('a response that is sent before its upload is complete reaches the client, in lame-duck and in draining', async t => {
  for (const delay of [0, 1_000]) {
    const gate = createDeferred<void>()
    const entered = createDeferred<void>()
    const { app, port } = await transports[0]!.start({ delay }, app => {
      app.addContentTypeParser('application/octet-stream', (_request, _payload, done) => { done(null) })
      app.post('/upload', {
        bodyLimit: 2 * size,
        onRequest: async (_request, reply) => {
          entered.resolve()
          await gate.promise
          return reply.code(401).send('unauthorized')
        }
      }, async () => 'taken')
    })
    const uploading = uploadFirst(await connect(port), `Content-Length: ${size}\r\n`)
    await entered.promise
    const closing = app.shutdown.start()
    await eventually(() => app.shutdownState.phase !== 'running', () => app.shutdownState)
    gate.resolve()
    const { answer, end } = await uploading
    t.match(answer, /^HTTP\/1\.1 401 [^]*connection: close[^]*unauthorized$/i, `with a delay of ${delay} ms`)
    t.equal(end, 'end')
    t.equal((await closing).outcome, 'clean')
  }
})

void t.test('a 503 reaches a client that is cut while it sends 50 MB, whichever way its handler pauses the upload', async t => {
  const never = (): Promise<never> => new Promise(() => {})
  for (const [name, read] of [
    ['does not read', never],
    ['iterates over it', async (body: Readable) => {
      for await (const chunk of body) if (chunk !== null) await never()
    }],
    ['pipes it to somewhere slow', async (body: Readable) => await pipeline(body, new Writable({ write () {} }))],
    ['has paused it', async (body: Readable) => {
      body.once('data', () => body.pause())
      await never()
    }]
  ] as const) {
    let failed: unknown = null
    const { app, port } = await transports[0]!.start({ timeouts: { requests: 200 } }, app => {
      app.addContentTypeParser('application/octet-stream', (_request, payload, done) => { done(null, payload) })
      app.post('/upload', { bodyLimit: 2 * size }, async request => await read(request.body as Readable).catch((error: unknown) => { failed = error }))
    })
    const uploading = uploadFirst(await connect(port), `Content-Length: ${size}\r\n`)
    await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
    const report = await app.shutdown.start()
    const { answer, sent, end } = await uploading
    t.match(answer, /^HTTP\/1\.1 503 [^]*retry-after: 10\r\n[^]*FST_ERR_SHUTDOWN_DRAINING/i, `a handler that ${name}`)
    t.match({ sent, end }, { sent: true, end: 'end' })
    t.match(report.requests.cut, [{ route: '/upload' }])
    if (/slow/.test(name)) t.match(failed, { message: /aborted|premature/i }, 'half of the body is not taken for all of it')
  }
})

void t.test('a body that stops half way', async t => {
  await t.test('gets a 503 at timeouts.requests, and is named in the report', async t => {
    const { app, port } = await transports[0]!.start({ timeouts: { requests: 200 } }, app => { app.post('/upload', async () => 'taken') })
    const client = await connect(port)
    client.send(post('/upload', 'half', { 'Content-Length': '8' }))
    await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
    const closing = app.shutdown.start()
    const answer = await client.answer()
    t.match(answer, { status: 503, headers: { 'retry-after': '10', connection: 'close' } })
    client.socket.end()
    const report = await closing
    t.match(report.requests.cut, [{ method: 'POST', route: '/upload' }])
    t.ok(report.durationMs < 5_000, `took ${report.durationMs} ms`)
  })

  await t.test('is served if it completes while draining', async t => {
    const { app, port } = await transports[0]!.start({}, app => { app.post('/upload', async request => request.body) })
    const client = await connect(port)
    client.send(post('/upload', 'half', { 'Content-Length': '8' }))
    await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
    const closing = app.shutdown.start()
    await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
    client.send('half')
    t.match(await client.answer(), { status: 200, body: 'halfhalf', headers: { connection: 'close' } })
    t.equal(await client.over, 'end')
    t.equal((await closing).outcome, 'clean')
  })
})

void t.test('chunked uploads that are aborted in the middle are counted once each', async t => {
  const { app, port } = await transports[0]!.start({}, app => { app.post('/upload', async request => request.body) })
  const chunked = get('/upload', { 'Content-Type': 'text/plain', 'Transfer-Encoding': 'chunked' }, 'POST')
  for (let round = 0; round < 25; round++) {
    const client = await connect(port)
    client.send(`${chunked}4\r\nhalf\r\n`)
    await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
    if (round % 2 === 0) client.socket.resetAndDestroy()
    else client.send('what is this?\r\n') // Not a chunk: Node itself answers 400.
    await client.over
    await eventually(() => app.shutdownState.activeRequests === 0, () => app.shutdownState)
    client.socket.destroy()
  }
  t.match(app.shutdownState.stats, { received: 25, aborted: 25, completed: 0 })
  const client = await connect(port)
  client.send(`${chunked}4\r\nhalf\r\n`)
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const closing = app.shutdown.start()
  client.socket.resetAndDestroy()
  const report = await closing
  t.match(report, { outcome: 'clean', requests: { completed: 0, aborted: 1, cut: [] } })
})

void t.test('Expect: 100-continue gets the 503 in place of the 100 while draining', async t => {
  const { app, port, release } = await draining({}, app => {
    app.post('/exempt', { config: { shutdown: { exempt: true } } }, async request => request.body)
  })
  const refused = await connect(port)
  refused.send(get('/upload', { 'Content-Type': 'application/octet-stream', 'Content-Length': '5', Expect: '100-continue' }, 'POST'))
  t.match(await refused.answer(), { status: 503, headers: { 'retry-after': '10', connection: 'close' } }, 'the 503 comes in place of the 100')
  refused.socket.end()
  t.equal(await refused.over, 'end')

  const exempt = await connect(port)
  exempt.send(get('/exempt', { 'Content-Type': 'text/plain', 'Content-Length': '5', Expect: '100-continue' }, 'POST'))
  t.equal((await exempt.answer()).status, 100)
  exempt.send('hello')
  const answer = await exempt.answer()
  t.match(answer, { status: 200, body: 'hello' })
  t.notOk('retry-after' in answer.headers)

  const old = await connect(port)
  old.send('POST /exempt HTTP/1.0\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello')
  t.match(await old.answer(), { status: 200, body: 'hello' }, 'HTTP/1.0 has no 100')
  t.equal((await release()).outcome, 'clean')
  t.equal(app.shutdownState.stats.rejected, 1)
})

void t.test('Expect: 100-continue over HTTP/2, and over HTTP/1 beside it, gets the 503 as well', async t => {
  for (const transport of transports.slice(2, 4)) {
    const { app, port, release } = await draining({}, app => {
      app.post('/exempt', { config: { shutdown: { exempt: true } } }, async request => request.body)
    }, transport)
    const ask = async (path: string): Promise<{ readonly continued: number, readonly status: number, readonly body: string }> => {
      const { session, request } = openSession(port, transport === transports[3] ? { ca: tls.cert } : {})
      const stream = request({ ':method': 'POST', ':path': path, 'content-type': 'text/plain', expect: '100-continue' }, { endStream: false })
      let continued = 0
      stream.on('continue', () => {
        continued++
        stream.end('hello')
      })
      const [headers] = await once(stream, 'response') as [http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader]
      const body = (await stream.setEncoding('utf8').toArray()).join('')
      session.destroy()
      return { continued, status: headers[':status']!, body }
    }
    t.match(await ask('/upload'), { continued: 0, status: 503, body: /FST_ERR_SHUTDOWN_DRAINING/ }, transport.name)
    t.match(await ask('/exempt'), { continued: 1, status: 200, body: 'hello' }, transport.name)
    t.equal((await release()).outcome, 'clean')
    t.match(app.shutdownState.stats, { completed: 1, rejected: 1 })
  }
})

void t.test('pipelined requests', async t => {
  const gates = new Map<string, Deferred<void>>()
  const routes = (app: FastifyInstance): void => {
    app.get('/:name', async request => {
      const gate = createDeferred<void>()
      const { name } = request.params as { name: string }
      gates.set(name, gate)
      await gate.promise
      return name
    })
  }
  const start = async (options: gracefulShutdown.Options = {}): ReturnType<Transport['start']> => {
    gates.clear()
    return await transports[0]!.start(options, routes)
  }

  await t.test('all are answered in order, and only the last response carries Connection: close', async t => {
    const { app, port } = await start()
    const client = await connect(port)
    client.send(get('/one') + get('/two') + get('/three'))
    await eventually(() => gates.size === 3, () => gates.size)
    const closing = app.shutdown.start()
    for (const name of ['three', 'one', 'two']) gates.get(name)!.resolve()
    const answers = [await client.answer(), await client.answer(), await client.answer()]
    t.same(answers.map(({ body }) => body), ['one', 'two', 'three'])
    t.same(answers.map(({ headers }) => headers['connection']), ['keep-alive', 'keep-alive', 'close'])
    t.equal(await client.over, 'end')
    t.match(await closing, { outcome: 'clean', requests: { completed: 3 } })
  })

  await t.test('a request that is pipelined behind them while draining gets its 503 last', async t => {
    const { app, port } = await start()
    const client = await connect(port)
    client.send(get('/one'))
    await eventually(() => gates.size === 1, () => gates.size)
    const closing = app.shutdown.start()
    await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
    client.send(get('/two'))
    await eventually(() => app.shutdownState.stats.received === 2, () => app.shutdownState)
    gates.get('one')!.resolve()
    t.match(await client.answer(), { status: 200, body: 'one' })
    t.match(await client.answer(), { status: 503, headers: { connection: 'close' } })
    t.equal(await client.over, 'end')
    t.match(await closing, { outcome: 'clean', requests: { completed: 1, rejected: 1 } })
  })

  await t.test('all stuck requests are cut, each with its own 503', async t => {
    const { app, port } = await start({ timeouts: { requests: 150 } })
    const client = await connect(port)
    client.send(get('/one') + get('/two') + get('/three'))
    await eventually(() => gates.size === 3, () => gates.size)
    const closing = app.shutdown.start()
    const answers = [await client.answer(), await client.answer(), await client.answer()]
    t.same(answers.map(({ status }) => status), [503, 503, 503])
    t.same(answers.map(({ headers }) => headers['connection']), ['keep-alive', 'keep-alive', 'close'])
    t.equal(await client.over, 'end')
    const report = await closing
    t.equal(report.requests.cut.length, 3)
    t.equal(app.shutdownState.stats.cut, 3)
  })

  await t.test('requests whose client leaves count until their handlers end', async t => {
    const { app, port } = await start()
    const accepted = once(app.server, 'connection')
    const client = await connect(port)
    client.send(get('/one') + get('/two'))
    await eventually(() => gates.size === 2, () => gates.size)
    client.socket.resetAndDestroy()
    const [socket] = await accepted as [Socket]
    if (!socket.closed) await new Promise(resolve => { socket.once('close', resolve) })
    const closing = app.shutdown.start()
    await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
    gates.get('one')!.resolve()
    await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
    t.equal(app.shutdownState.phase, 'draining', 'the second handler still runs')
    gates.get('two')!.resolve()
    t.match(await closing, { outcome: 'clean' })
    t.match(app.shutdownState.stats, { received: 2, aborted: 2 })
  })
})
