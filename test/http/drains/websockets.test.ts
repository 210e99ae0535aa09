/** WebSockets, and other protocols that take a connection over from HTTP. */
import { once } from 'node:events'
import type http from 'node:http'
import { createHash } from 'node:crypto'
import type { Duplex } from 'node:stream'
import fastifyWebsocket, { type WebsocketPluginOptions } from '@fastify/websocket'
import fc from 'fast-check'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import type gracefulShutdown from '../../../lib/index'
import { followFrames } from '../../../lib/http/drains/websocket-frames'
import { createDeferred } from '../../../lib/util/deferred'
import { connect, eventually, get } from '../../helpers/client'
import { dualStack, tls, transports } from '../../helpers/transports'

type Options = gracefulShutdown.Options
type Started = { readonly app: FastifyInstance, readonly port: number }

const handshake = (path = '/'): string => get(path, { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==' })
/** The answer of an RFC 6455 client to a close frame with code 1001. The mask is zero. */
const maskedClose = Buffer.from([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9])
const closeFrame = '\x88\x02\x03\xe9'

/** An app with @fastify/websocket. Its route `/` passes each socket to `onSocket`. */
async function withPlugin (options: Options = {}, { onSocket = () => {}, pluginOptions = {}, secure = false, more = () => {} }: {
  onSocket?: (socket: WebSocket) => void, pluginOptions?: WebsocketPluginOptions, secure?: boolean, more?: (app: FastifyInstance) => void
} = {}): Promise<Started> {
  return await transports[secure ? 1 : 0]!.start(options, app => {
    void app.register(fastifyWebsocket, pluginOptions)
    void app.register(async app => {
      app.get('/', { websocket: true }, onSocket)
      more(app)
    })
  })
}

/** An app with an `upgrade` listener and ws. */
async function withListener (options: Options = {}, onSocket: (socket: WebSocket) => void = () => {}): Promise<Started> {
  return await transports[0]!.start(options, app => {
    const server = new WebSocketServer({ noServer: true })
    app.server.on('upgrade', (req, socket, head) => server.handleUpgrade(req, socket, head, onSocket))
  })
}

/** An app that implements the protocol itself. */
async function byHand (options: Options = {}, onSocket: (socket: Duplex) => void = () => {}): Promise<Started> {
  return await transports[0]!.start(options, app => {
    app.server.on('upgrade', (req: http.IncomingMessage, socket: Duplex) => {
      const accept = createHash('sha1').update(`${req.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
      socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`)
      socket.on('error', () => socket.destroy())
      socket.on('data', (data: Buffer) => { if ((data[0]! & 0x0f) === 8) socket.end() })
      onSocket(socket)
    })
  })
}

async function open (port: number, secure = false): Promise<{ readonly socket: WebSocket, readonly messages: string[], readonly closed: Promise<readonly [number, string]> }> {
  const socket = secure ? new WebSocket(`wss://localhost:${port}/`, { ca: tls.cert, family: 4 }) : new WebSocket(`ws://127.0.0.1:${port}/`)
  const messages: string[] = []
  socket.on('message', data => messages.push(String(data)))
  const closed = new Promise<readonly [number, string]>(resolve => { socket.once('close', (code, reason) => resolve([code, String(reason)])) })
  await once(socket, 'open')
  return { socket, messages, closed }
}

for (const [name, start] of [['@fastify/websocket', withPlugin], ['an upgrade listener with ws', withListener]] as const) {
  void t.test(name, async t => {
    await t.test('an open WebSocket gets a close frame with code 1001 and a reason, and is counted', async t => {
      const { app, port } = await start()
      const [one, two] = [await open(port), await open(port)]
      t.equal(app.shutdownState.activeWebSockets, 2)
      t.equal(app.shutdownState.activeRequests, 0, 'an upgrade is not counted as a request')
      const report = await app.shutdown.start()
      t.same(await one.closed, [1001, 'server shutdown'])
      t.same(await two.closed, [1001, 'server shutdown'])
      t.same(one.messages, [], 'without webSocketMessage there is no last message')
      t.same(report.webSockets, { closed: 2, terminated: 0 })
      t.equal(report.outcome, 'clean')
      t.ok(report.durationMs < 5_000, `took ${report.durationMs} ms`)
      t.equal(app.shutdownState.activeWebSockets, 0)
    })

    await t.test('with webSocketMessage the last message is sent before the close frame', async t => {
      for (const [webSocketMessage, said] of [[true, '{"type":"close","reason":"server_shutdown"}'], ['bye', 'bye'], [Buffer.from('bytes'), 'bytes']] as const) {
        const { app, port } = await start({ webSocketMessage })
        const { messages, closed } = await open(port)
        await app.close()
        t.equal((await closed)[0], 1001)
        t.same(messages, [said])
      }
    })

    await t.test('a WebSocket whose client does not answer is terminated at timeouts.streams, and counted in the report', async t => {
      const { app, port } = await start({ timeouts: { streams: 200 } })
      const client = await connect(port)
      client.send(handshake())
      await client.until('\r\n\r\n')
      const report = await app.shutdown.start()
      t.match(client.rest, closeFrame.slice(2), 'the client got the close frame')
      t.same(report.webSockets, { closed: 0, terminated: 1 })
      t.equal(report.outcome, 'forced')
      t.ok(report.durationMs >= 199 && report.durationMs < 5_000, `took ${report.durationMs} ms`)
      client.socket.destroy()
    })

    await t.test('a fragmented message is not interrupted by the close frame or by the last message', async t => {
      const opened = createDeferred<WebSocket>()
      const { app, port } = await start({ webSocketMessage: 'bye' }, ...(start === withPlugin ? [{ onSocket: opened.resolve }] : [opened.resolve]) as never[])
      const { messages, closed } = await open(port)
      const socket = await opened.promise
      socket.send('begin-', { fin: false })
      const closing = app.shutdown.start()
      await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
      await new Promise(resolve => { setImmediate(resolve) })
      socket.send('middle-', { fin: false })
      socket.send('end', { fin: true })
      t.equal((await closed)[0], 1001)
      t.same(messages, ['begin-middle-end', 'bye'])
      t.equal((await closing).outcome, 'clean')
    })

    await t.test('a message of which half was read when draining began arrives completely', async t => {
      const opened = createDeferred<WebSocket>()
      const { app, port } = await start({}, ...(start === withPlugin ? [{ onSocket: opened.resolve }] : [opened.resolve]) as never[])
      const client = await connect(port)
      client.send(handshake())
      await client.until('\r\n\r\n')
      const message = once(await opened.promise, 'message')
      client.send(Buffer.concat([Buffer.from([0x81, 0x8a, 0, 0, 0, 0]), Buffer.from('hello')]))
      const closing = app.shutdown.start()
      await client.until('\x03\xe9')
      client.send('world')
      t.equal(String((await message)[0]), 'helloworld')
      client.send(maskedClose)
      t.equal(await client.over, 'end')
      t.same((await closing).webSockets, { closed: 1, terminated: 0 })
    })

    await t.test('a new upgrade is rejected as a plain request, and its connection ends', async t => {
      const hold = createDeferred<void>()
      const { app, port } = await start({ newConnections: 'answer', retryAfter: 7 })
      app.shutdown.waitUntil(hold.promise)
      const closing = app.shutdown.start()
      await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
      const client = await connect(port)
      client.send(handshake())
      const answer = await client.answer()
      t.equal(answer.status, 503)
      t.equal(answer.headers['retry-after'], '7')
      t.equal(answer.headers['connection'], 'close')
      t.equal(await client.over, 'end')
      hold.resolve()
      t.equal((await closing).requests.rejected, 1)
    })
  })
}

void t.test('a WebSocket over TLS gets the same close frame and last message', async t => {
  const { app, port } = await withPlugin({ webSocketMessage: true }, { secure: true })
  const { messages, closed } = await open(port, true)
  const report = await app.shutdown.start()
  t.equal((await closed)[0], 1001)
  t.equal(messages.length, 1)
  t.same(report.webSockets, { closed: 1, terminated: 0 })
})

void t.test("the preClose hook of @fastify/websocket changes nothing, and the app's own hook still runs", async t => {
  let asked = 0
  const { app, port } = await withPlugin({}, {
    pluginOptions: {
      preClose (done: () => void) {
        asked++
        for (const client of app.websocketServer.clients) client.close(4000)
        app.websocketServer.close()
        done()
      }
    }
  })
  const { closed } = await open(port)
  const report = await app.shutdown.start()
  t.same(await closed, [1001, 'server shutdown'], 'our close frame is sent first')
  t.equal(asked, 1)
  t.equal(report.outcome, 'clean')
})

void t.test('an upgrade in lame-duck is served, and gets its close frame when draining begins', async t => {
  const { app, port } = await withPlugin({ delay: 300 }, { onSocket: socket => socket.send('hello') })
  const closing = app.shutdown.start()
  t.equal(app.shutdownState.phase, 'lame-duck')
  const { socket, messages, closed } = await open(port)
  if (messages.length === 0) await once(socket, 'message')
  t.match(app.shutdownState, { phase: 'lame-duck', activeWebSockets: 1 })
  t.equal((await closed)[0], 1001)
  t.equal(app.shutdownState.accepting, false, 'the close frame is not sent before draining begins')
  t.match(await closing, { outcome: 'clean', webSockets: { closed: 1, terminated: 0 } })
})

void t.test('messages that are still being compressed when draining begins arrive first, then the last message, then the close frame', async t => {
  const opened = createDeferred<WebSocket>()
  const { app, port } = await withPlugin({ webSocketMessage: true }, { onSocket: opened.resolve, pluginOptions: { options: { perMessageDeflate: { threshold: 0 } } } })
  const { socket, messages, closed } = await open(port)
  t.equal(socket.extensions, 'permessage-deflate')
  const long = 'abc'.repeat(500_000)
  const served = await opened.promise
  for (let sent = 0; sent < 10; sent++) served.send(long)
  const report = await app.shutdown.start()
  t.equal((await closed)[0], 1001)
  t.same(messages.map(({ length }) => length), [...Array.from({ length: 10 }, () => long.length), 43])
  t.match(report, { outcome: 'clean', webSockets: { closed: 1, terminated: 0 } })
})

void t.test('a WebSocket that the app is already closing gets no other close frame', async t => {
  const opened = createDeferred<WebSocket>()
  const { app, port } = await withPlugin({}, { onSocket: opened.resolve })
  const { closed } = await open(port)
  const socket = await opened.promise
  socket.close(4001, 'mine')
  const report = await app.shutdown.start()
  t.same(await closed, [4001, 'mine'])
  t.equal(report.outcome, 'clean')
})

void t.test('a WebSocket whose own methods throw delays no other, and is terminated at timeouts.streams', async t => {
  const problems: string[] = []
  const { app, port } = await withPlugin({
    webSocketMessage: true,
    timeouts: { streams: 200 },
    exporters: [{ name: 'test', start: ({ listen }) => listen(event => { if (event.type === 'problem') problems.push(event.message) }) }]
  }, {
    more (app) {
      app.get('/mute', { websocket: true }, socket => { socket.send = () => { throw new Error('mute') } })
      app.get('/stubborn', { websocket: true }, socket => { socket.close = () => { throw new Error('stubborn') } })
    }
  })
  const [mute, stubborn] = ['mute', 'stubborn'].map(path => new WebSocket(`ws://127.0.0.1:${port}/${path}`)) as [WebSocket, WebSocket]
  const closed = Promise.all([once(mute, 'close'), once(stubborn, 'close')])
  await Promise.all([once(mute, 'open'), once(stubborn, 'open')])
  const polite = await open(port)
  const report = await app.shutdown.start()
  t.same((await closed).map(([code]) => code), [1001, 1006], 'the first socket loses only its last message')
  t.equal((await polite.closed)[0], 1001)
  t.same(report.webSockets, { closed: 2, terminated: 1 })
  t.equal(report.outcome, 'failed')
  t.same(report.errors.map(({ message }) => message), ['A WebSocket could not be closed: mute', 'A WebSocket could not be closed: stubborn'])
  t.equal(problems.length, 2)
})

void t.test('an upgrade that is still being validated when draining begins gets its handshake, then the close frame', async t => {
  const gate = createDeferred<void>()
  const entered = createDeferred<void>()
  const { app, port } = await withPlugin({}, {
    more (app) {
      app.get('/guarded', {
        websocket: true,
        preValidation: async () => {
          entered.resolve()
          await gate.promise
        }
      }, () => {})
    }
  })
  const socket = new WebSocket(`ws://127.0.0.1:${port}/guarded`)
  const closed = once(socket, 'close')
  const opened = once(socket, 'open')
  await entered.promise
  const closing = app.shutdown.start()
  await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
  gate.resolve()
  await opened
  t.equal((await closed)[0], 1001)
  t.same((await closing).webSockets, { closed: 1, terminated: 0 })
})

void t.test('shutdownSignal of a WebSocket route aborts when the WebSocket closes, not before', async t => {
  const signals: AbortSignal[] = []
  const { app, port } = await withPlugin({}, {
    more (app) {
      app.get('/signal', { websocket: true }, (_socket, request) => { signals.push(request.shutdownSignal) })
    }
  })
  const socket = new WebSocket(`ws://127.0.0.1:${port}/signal`)
  await once(socket, 'open')
  await eventually(() => signals.length === 1, () => signals)
  t.notOk(signals[0]!.aborted)
  socket.close()
  await eventually(() => signals[0]!.aborted, () => 'no abort')
  t.equal(app.shutdownState.activeWebSockets, 0)
  await app.close()
})

void t.test('injectWS() works, and delays no shutdown', async t => {
  const opened = createDeferred<WebSocket>()
  const { app } = await withPlugin({}, {
    onSocket (socket) {
      opened.resolve(socket)
      socket.on('message', data => socket.send(data))
    }
  })
  const socket = await app.injectWS('/')
  socket.send('echo')
  t.equal(String((await once(socket, 'message'))[0]), 'echo')
  const report = await app.shutdown.start()
  await eventually(() => socket.readyState >= WebSocket.CLOSING, () => socket.readyState)
  t.equal(report.outcome, 'clean')
  t.ok(report.durationMs < 5_000, 'it has no connection to wait for')
  for (const end of [socket, await opened.promise]) end.terminate()
})

void t.test('a WebSocket implementation made by hand', async t => {
  await t.test('the close frame is sent between two frames of the app', async t => {
    const { app, port } = await byHand()
    const { closed } = await open(port)
    const report = await app.shutdown.start()
    t.equal((await closed)[0], 1001)
    t.same(report.webSockets, { closed: 1, terminated: 0 })
  })

  await t.test('the close frame is sent after the current message, even if the message is written in pieces', async t => {
    const opened = createDeferred<Duplex>()
    const { app, port } = await byHand({}, opened.resolve)
    const { messages, closed } = await open(port)
    const socket = await opened.promise
    // Two fragments of five bytes. The head and payload of the second fragment come in three writes.
    socket.write(Buffer.from([0x01, 5]))
    socket.write('hello')
    socket.write(Buffer.from([0x80]))
    const closing = app.shutdown.start()
    await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
    await new Promise(resolve => { setImmediate(resolve) })
    socket.write(Buffer.from([5]))
    await new Promise(resolve => { setImmediate(resolve) })
    socket.write('world')
    t.equal((await closed)[0], 1001)
    t.same(messages, ['helloworld'])
    t.equal((await closing).outcome, 'clean')
  })

  await t.test('an upgrade that is never answered is cut at timeouts.streams', async t => {
    const { app, port } = await transports[0]!.start({ timeouts: { streams: 150 } }, app => { app.server.on('upgrade', () => {}) })
    const client = await connect(port)
    client.send(handshake())
    await eventually(() => app.shutdownState.activeWebSockets === 1, () => app.shutdownState)
    const report = await app.shutdown.start()
    t.equal(client.rest, '', 'no close frame is sent in place of the handshake')
    t.same(report.webSockets, { closed: 0, terminated: 1 })
    t.ok(report.durationMs < 5_000, `took ${report.durationMs} ms`)
  })
})

void t.test('another protocol can end by itself until timeouts.streams', async t => {
  const routes = (app: FastifyInstance): void => {
    app.server.on('upgrade', (_req, socket: Duplex) => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: lines\r\nConnection: Upgrade\r\n\r\nhello\n')
      app.shutdownState.signal.addEventListener('abort', () => { socket.end('bye\n') })
    })
  }
  const { app, port } = await transports[0]!.start({}, routes)
  const client = await connect(port)
  client.send(get('/', { Connection: 'Upgrade', Upgrade: 'lines' }))
  await client.until('hello\n')
  const closing = app.shutdown.start()
  t.equal(await client.over, 'end')
  t.ok(client.rest.endsWith('\r\n\r\nhello\nbye\n'), 'the plugin sends not one byte')
  t.same((await closing).webSockets, { closed: 1, terminated: 0 })
})

void t.test('a CONNECT tunnel is drained like a WebSocket, and a new tunnel is rejected with a 503', async t => {
  const hold = createDeferred<void>()
  const { app, port } = await transports[0]!.start({ newConnections: 'answer', retryAfter: 3 }, app => {
    app.server.on('connect', (_req, socket: Duplex) => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n')
      socket.on('data', data => socket.write(data)).on('end', () => socket.end())
    })
  })
  const tunnel = await connect(port)
  tunnel.send(get('test:1', {}, 'CONNECT'))
  await tunnel.until('\r\n\r\n')
  app.shutdown.waitUntil(hold.promise)
  const closing = app.shutdown.start()
  await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
  const late = await connect(port)
  late.send(get('test:2', {}, 'CONNECT'))
  const refused = await late.answer()
  t.equal(refused.status, 503)
  t.equal(refused.headers['retry-after'], '3')
  t.equal(await late.over, 'end')
  tunnel.send('still there')
  await tunnel.until('still there')
  tunnel.socket.end()
  hold.resolve()
  t.same((await closing).webSockets, { closed: 1, terminated: 0 })
})

void t.test('without an upgrade listener the Upgrade header changes nothing, before and during the shutdown', async t => {
  const { app, port } = await transports[0]!.start({}, app => { app.get('/', async () => 'plain') })
  t.equal(app.server.listenerCount('upgrade'), 0)
  const client = await connect(port)
  client.send(handshake())
  t.equal((await client.answer()).body, 'plain')
  client.socket.destroy()
  const late = (): void => {}
  app.server.on('upgrade', late)
  t.equal(app.server.listenerCount('upgrade'), 2, 'our listener is added beside a late listener of the app')
  await app.close()
})

void t.test('both servers of a dual-stack listen close their WebSockets', async t => {
  const { app, port } = await dualStack.start({}, app => {
    void app.register(fastifyWebsocket)
    void app.register(async app => { app.get('/', { websocket: true }, () => {}) })
  })
  const clients = ['127.0.0.1', '127.0.0.2'].map(host => {
    const socket = new WebSocket(`ws://${host}:${port}/`)
    return { opened: once(socket, 'open'), closed: once(socket, 'close') }
  })
  for (const { opened } of clients) await opened
  t.equal(app.shutdownState.activeWebSockets, 2)
  const report = await app.shutdown.start()
  for (const { closed } of clients) t.equal((await closed)[0], 1001)
  t.same(report.webSockets, { closed: 2, terminated: 0 })
})

void t.test('followFrames', async t => {
  const data = (fin: boolean, opcode: number, payload: Uint8Array): Buffer => {
    const { length } = payload
    const head = length < 126 ? [length] : length < 65_536 ? [126, length >> 8, length & 0xff] : [127, 0, 0, 0, 0, 0, length >> 16, (length >> 8) & 0xff, length & 0xff]
    return Buffer.concat([Buffer.from([(fin ? 0x80 : 0) | opcode, ...head]), payload])
  }
  await t.test('finds the ends of messages, however the bytes are split', async t => {
    const message = fc.array(fc.tuple(fc.nat({ max: 70_000 }), fc.boolean()), { minLength: 1, maxLength: 4 })
    fc.assert(fc.property(fc.array(message, { maxLength: 4 }), fc.array(fc.nat({ max: 5_000 }), { minLength: 1, maxLength: 20 }), (messages, cuts) => {
      const ends = new Set<number>()
      const parts: Buffer[] = [Buffer.from('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n')]
      let length = parts[0]!.length
      ends.add(length)
      for (const fragments of messages) {
        fragments.forEach(([size, ping], index) => {
          const last = index === fragments.length - 1
          for (const frame of [...(ping ? [data(true, 9, Buffer.from('ping'))] : []), data(last, index === 0 ? 2 : 0, Buffer.alloc(size))]) {
            if (index === 0 && (frame[0]! & 0x0f) === 9) ends.add(length + frame.length)
            parts.push(frame)
            length += frame.length
          }
        })
        ends.add(length)
      }
      const bytes = Buffer.concat(parts)
      const frames = followFrames()
      for (let at = 0, turn = 0; at < bytes.length; turn++) {
        const next = Math.min(bytes.length, at + 1 + cuts[turn % cuts.length]!)
        frames.push(bytes.subarray(at, next))
        at = next
        if (frames.between !== ends.has(at)) throw new Error(`at ${at} of ${bytes.length}: ${frames.between}`)
      }
    }), { numRuns: 60 })
    t.pass()
  })

  await t.test('reports no frame boundary for an upgrade that was rejected', async t => {
    const frames = followFrames()
    frames.push(Buffer.from('HTTP/1.1 403 Forbidden\r\n'))
    t.ok(frames.opening)
    frames.push(Buffer.from('\r\nbody'))
    t.notOk(frames.opening)
    t.notOk(frames.between)
  })
})
