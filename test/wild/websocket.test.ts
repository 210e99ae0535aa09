/** @fastify/websocket: its streams, its hooks, its injectWS(), and a service in a process of its own. */
import { once } from 'node:events'
import { join } from 'node:path'
import fastifyWebsocket from '@fastify/websocket'
import t from 'tap'
import { createWebSocketStream, WebSocket } from 'ws'
import { createDeferred } from '../../lib/util/deferred'
import { report, run, translate } from '../helpers/children'
import { connect, eventually, get, portOf } from '../helpers/client'
import { entered, rejected, serve } from '../helpers/serve'

/** @returns the number of messages without an answer, and the close code */
async function echoUntilClosed (port: number, onAnswer: () => void): Promise<{ readonly lost: number, readonly code: number }> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/`)
  let sent = 0
  let answered = 0
  const send = (): void => {
    if (socket.readyState !== WebSocket.OPEN) return
    socket.send(String(++sent))
  }
  socket.on('open', send)
  // As a client with promises, it continues after the event.
  socket.on('message', () => {
    answered++
    onAnswer()
    queueMicrotask(send)
  })
  const [code] = await once(socket, 'close') as [number]
  return { lost: sent - answered, code }
}

t.test('a service whose clients call without a pause ends with exit code 0 after SIGTERM, and loses no call', async t => {
  const directory = translate(t.testdir(), ['lib', 'test/wild/fixtures/websocket.ts'])
  const service = run(t, { args: [join(directory, 'test/wild/fixtures/websocket.js')], cwd: directory })
  const port = Number(await service.said('port'))
  let answers = 0
  const clients = Array.from({ length: 50 }, () => echoUntilClosed(port, () => { answers++ }))
  await eventually(() => answers > 150, () => answers)
  service.kill('SIGTERM')
  const results = await Promise.all(clients)
  t.equal(results.reduce((sum, { lost }) => sum + lost, 0), 0)
  t.ok(results.every(({ code }) => code === 1001))
  t.match(await report(service), { outcome: 'clean', exitCode: 0, webSockets: { closed: 50, terminated: 0 } })
  t.match(await service.ended, { code: 0, signal: null })
})

t.test('a stream over a WebSocket delivers what was written before draining', async t => {
  const { app, report } = await serve(t, {
    routes: async app => {
      await app.register(fastifyWebsocket)
      void app.register(async app => {
        app.get('/', { websocket: true }, socket => {
          const stream = createWebSocketStream(socket)
          stream.on('error', () => {})
          for (let count = 0; count < 100; count++) stream.write(Buffer.alloc(10_000, 'a'))
        })
      })
    }
  })
  const socket = new WebSocket(`ws://127.0.0.1:${portOf(app)}/`)
  let received = 0
  socket.on('message', data => { received += (data as Buffer).length })
  const closed = once(socket, 'close')
  await once(socket, 'open')
  await app.close()
  t.equal((await closed)[0], 1001)
  t.equal(received, 1_000_000)
  t.match(await report, { outcome: 'clean', webSockets: { closed: 1, terminated: 0 } })
})

t.test('a handshake that a hook of the app rejects gets its answer, in lame-duck too, and our 503 while draining', async t => {
  const held = createDeferred<void>()
  const { app, report } = await serve(t, {
    options: { delay: 200, newConnections: 'answer' },
    routes: async app => {
      await app.register(fastifyWebsocket)
      void app.register(async app => {
        app.addHook('preValidation', async (_request, reply) => { await reply.code(401).send('no') })
        app.get('/', { websocket: true }, () => {})
      })
    }
  })
  const ask = async (expected: object): Promise<void> => {
    const client = await connect(app)
    client.send(get('/', { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==' }))
    t.match(await client.answer(), expected)
    t.equal(await client.over, 'end')
  }
  await ask({ status: 401 })
  app.shutdown.waitUntil(held.promise)
  void app.shutdown.start()
  await ask({ status: 401 })
  await entered(app, 'draining')
  await ask(rejected)
  held.resolve()
  t.match(await report, { outcome: 'clean', requests: { rejected: 1 } })
})

t.test('a call over injectWS() gets its answer', async t => {
  const opened = createDeferred<WebSocket>()
  const { app, report } = await serve(t, {
    routes: async app => {
      await app.register(fastifyWebsocket)
      void app.register(async app => {
        app.get('/', { websocket: true }, socket => {
          opened.resolve(socket)
          socket.on('message', data => { setTimeout(() => socket.send(data), 100) })
        })
      })
    }
  })
  const socket = await app.injectWS('/')
  const [answer, closed] = [once(socket, 'message'), once(socket, 'close')]
  socket.send('call')
  await new Promise(resolve => { setTimeout(resolve, 20) })
  const closing = app.shutdown.start()
  t.equal(String((await answer)[0]), 'call')
  await closing
  t.match(await report, { outcome: 'clean' })
  for (const end of [socket, await opened.promise]) end.terminate()
  await closed
})
