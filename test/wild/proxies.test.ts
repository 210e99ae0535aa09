/**
 * Apps that forward requests: @fastify/http-proxy, @fastify/reply-from and undici. Node sets `request.raw.socket` to null
 * when they have read a body, and the upstream's own `Connection: keep-alive` reaches the client.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import httpProxy from '@fastify/http-proxy'
import replyFrom from '@fastify/reply-from'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { Agent, request as undiciRequest } from 'undici'
import WebSocket, { WebSocketServer } from 'ws'
import { createDeferred, type Deferred } from '../../lib/util/deferred'
import { connect, eventually, get, portOf, post } from '../helpers/client'
import { entered, rejected, serve } from '../helpers/serve'

interface Upstream {
  readonly url: string
  readonly server: Server
  /** Lets every answer continue. */
  readonly gate: Deferred<void>
}

/** An upstream that answers in two halves, with its own hop-by-hop headers. */
async function startUpstream (t: Test): Promise<Upstream> {
  const gate = createDeferred<void>()
  const answer = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    let length = 0
    for await (const chunk of req) length += (chunk as Buffer).length
    if (req.url === '/late') await gate.promise
    res.writeHead(200, { connection: 'keep-alive', 'keep-alive': 'timeout=99', 'content-type': 'text/plain' })
    res.write(`${length} bytes, `)
    await gate.promise
    if (req.url === '/broken') res.destroy()
    else res.end('whole')
  }
  const server = createServer((req, res) => { answer(req, res).catch(() => res.destroy()) })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => {
    gate.resolve()
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server, gate }
}

const proxies: Record<string, (app: FastifyInstance, upstream: string) => Promise<void>> = {
  async '@fastify/http-proxy' (app, upstream) {
    await app.register(httpProxy, { upstream })
  },
  async '@fastify/reply-from' (app, upstream) {
    await app.register(replyFrom, { base: upstream })
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
    app.all('/*', (request, reply) => reply.from(request.url))
  },
  async undici (app, upstream) {
    const dispatcher = new Agent()
    app.addHook('onClose', async () => { await dispatcher.close() })
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('*', (_request, _payload, done) => done(null))
    app.all('/*', async (request, reply) => {
      const { statusCode, headers, body } = await undiciRequest(upstream + request.url, {
        dispatcher, method: request.method as 'POST', body: request.method === 'POST' ? request.raw : null
      })
      return reply.code(statusCode).headers(headers).send(body)
    })
  }
}

for (const [name, add] of Object.entries(proxies)) {
  void t.test(`answers that ${name} forwards are whole, and each closes its connection`, async t => {
    const { url, gate } = await startUpstream(t)
    const { app } = await serve(t, { routes: app => add(app, url) })
    const [begun, late, upload] = [await connect(app), await connect(app), await connect(app)]
    begun.send(get('/begun'))
    await begun.until('0 bytes')
    late.send(get('/late'))
    upload.send(post('/late', 'half, ', { 'Content-Length': '10' }))
    await eventually(() => app.shutdownState.activeRequests === 2, () => app.shutdownState)
    const report = app.shutdown.start()
    await entered(app, 'draining')
    upload.send('rest')
    gate.resolve()
    t.match(await begun.answer(), { status: 200, body: '0 bytes, whole' })
    for (const [client, body] of [[late, '0 bytes, whole'], [upload, '10 bytes, whole']] as const) {
      t.match(await client.answer(), { status: 200, body, headers: { connection: 'close', 'keep-alive': undefined } })
      t.equal(await client.over, 'end')
    }
    t.match(await report, { outcome: 'clean', exitCode: 0, errors: [], requests: { completed: 3, aborted: 0, cut: [] } })
  })

  void t.test(`an upstream of ${name} that breaks during the drain is counted as cut, and ends it`, async t => {
    const { url, gate } = await startUpstream(t)
    const { app } = await serve(t, { routes: app => add(app, url) })
    const client = await connect(app)
    client.send(get('/broken'))
    const { rest } = await client.begin()
    const report = app.shutdown.start()
    await entered(app, 'draining')
    gate.resolve()
    t.equal((await rest).whole, false)
    const { outcome, requests, streams } = await report
    t.equal(outcome, 'forced')
    t.equal(requests.cut.length + streams.cut, 1)
  })

  void t.test(`a new request to ${name} while draining gets the 503, and does not reach the upstream`, async t => {
    const { url, server, gate } = await startUpstream(t)
    const { app } = await serve(t, { routes: app => add(app, url) })
    const held = await connect(app)
    held.send(get('/late'))
    await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
    let received = 0
    await once(server, 'request')
    server.on('request', () => { received++ })
    const report = app.shutdown.start()
    await entered(app, 'draining')
    const client = await connect(app)
    client.send(post('/late', 'body'))
    t.match(await client.answer(), rejected)
    gate.resolve()
    t.equal((await held.answer()).status, 200)
    t.match(await report, { outcome: 'clean', requests: { completed: 1, rejected: 1 } })
    t.equal(received, 0)
  })
}

void t.test('both sides of a WebSocket that @fastify/http-proxy forwards are closed', async t => {
  const { server, url } = await startUpstream(t)
  const upstream = new WebSocketServer({ server })
  upstream.on('connection', socket => { socket.on('message', data => socket.send(`echo ${String(data)}`)) })
  const { app } = await serve(t, {
    routes: async app => { await app.register(httpProxy, { upstream: url, websocket: true }) }
  })
  const webSocket = new WebSocket(`ws://127.0.0.1:${portOf(app)}/`)
  await once(webSocket, 'open')
  webSocket.send('hello')
  t.equal(String((await once(webSocket, 'message'))[0]), 'echo hello')
  const closed = once(webSocket, 'close')
  const [behind] = upstream.clients
  const closedBehind = once(behind!, 'close')
  const report = await app.shutdown.start()
  t.equal((await closed)[0], 1001)
  await closedBehind
  t.match(report, { outcome: 'clean', exitCode: 0, webSockets: { terminated: 0 } })
})
