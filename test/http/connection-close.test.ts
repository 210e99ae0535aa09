/**
 * `Connection: close` on the last answer of a connection, whatever the route or a library has set (RFC 9112, section
 * 9.6). A client that does not see it sends its next request on a connection that closes.
 */
import http from 'node:http'
import type { FastifyInstance, FastifyReply } from 'fastify'
import t from 'tap'
import { createDeferred } from '../../lib/util/deferred'
import { connect, eventually, get, portOf } from '../helpers/client'
import { entered, serve } from '../helpers/serve'

/** Ways to set the header. Each sends the body `x`. */
const ways: Record<string, (reply: FastifyReply) => unknown> = {
  'no header at all': () => 'x',
  'reply.header()': reply => reply.header('connection', 'keep-alive').header('keep-alive', 'timeout=99').send('x'),
  'reply.header() in capitals': reply => reply.header('CONNECTION', 'Keep-Alive').header('KEEP-ALIVE', 'timeout=99').send('x'),
  'reply.header() with several values': reply => reply.header('connection', ['keep-alive', 'x-trace']).header('x-trace', '1').send('x'),
  'res.setHeader()': reply => {
    reply.raw.setHeader('Connection', 'keep-alive')
    return reply.send('x')
  },
  'res.removeHeader()': reply => {
    reply.raw.removeHeader('Connection')
    return reply.send('x')
  },
  'res.setHeader() and flushHeaders()': reply => {
    const { raw } = reply.hijack()
    raw.setHeader('Connection', 'keep-alive')
    raw.setHeader('Content-Length', '1')
    raw.flushHeaders()
    raw.end('x')
  },
  'writeHead() with an object': reply => { reply.hijack().raw.writeHead(200, { Connection: 'keep-alive', 'Keep-Alive': 'timeout=99', 'Content-Length': 1 }).end('x') },
  'writeHead() with a list': reply => { reply.hijack().raw.writeHead(200, 'Fine', ['Connection', 'keep-alive', 'Keep-Alive', 'timeout=99', 'Content-Length', '1', 'Set-Cookie', 'a=1', 'Set-Cookie', 'b=2']).end('x') },
  'writeHead() with pairs': reply => { reply.hijack().raw.writeHead(200, [['Connection', 'keep-alive'], ['Keep-Alive', 'timeout=99'], ['Content-Length', '1'], ['Set-Cookie', 'a=1'], ['Set-Cookie', 'b=2']] as unknown as string[]).end('x') },
  'an onSend hook': reply => reply.header('x-hook', '1').send('x')
}

function addRoutes (app: FastifyInstance, before: () => Promise<unknown>): void {
  app.addHook('onRequest', async (request, { raw }) => {
    if (request.headers['x-replaced'] === undefined) return
    const { writeHead } = raw
    raw.writeHead = ((...args: [number]) => {
      raw.setHeader('Connection', 'keep-alive')
      return writeHead.apply(raw, args)
    }) as typeof writeHead
  })
  app.addHook('onSend', async (_request, reply) => { if (reply.hasHeader('x-hook')) reply.header('connection', 'keep-alive') })
  for (const [index, way] of Object.values(ways).entries()) {
    app.get(`/${index}`, async (_request, reply) => {
      await before()
      return way(reply)
    })
  }
}

for (const version of ['1.1', '1.0']) {
  void t.test(`the last answer of HTTP/${version} has Connection: close and no Keep-Alive`, async t => {
    const gate = createDeferred<void>()
    const { app, report } = await serve(t, { routes: app => addRoutes(app, () => gate.promise) })
    const clients = await Promise.all(Object.keys(ways).map(() => connect(app)))
    clients.forEach((client, index) => client.send(get(`/${index}`, version === '1.0' ? { Connection: 'keep-alive' } : {}).replace('HTTP/1.1', `HTTP/${version}`)))
    await eventually(() => app.shutdownState.activeRequests === clients.length, () => app.shutdownState)
    const closed = app.close()
    await entered(app, 'draining')
    gate.resolve()
    for (const [index, name] of Object.keys(ways).entries()) {
      const { status, headers, body } = await clients[index]!.answer()
      t.match({ status, body, connection: headers.connection, keepAlive: headers['keep-alive'] }, { status: 200, body: 'x', connection: 'close', keepAlive: undefined }, name)
      t.equal(await clients[index]!.over, 'end', name)
    }
    await closed
    t.match(await report, { outcome: 'clean', requests: { completed: clients.length, cut: [] } })
  })
}

void t.test('the last answer has Connection: close also if a library has replaced writeHead before, to set another value', async t => {
  const gate = createDeferred<void>()
  const { app } = await serve(t, { routes: app => addRoutes(app, () => gate.promise) })
  const client = await connect(app)
  client.send(get('/0', { 'x-replaced': '1' }))
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const closed = app.close()
  await entered(app, 'draining')
  gate.resolve()
  t.match(await client.answer(), { status: 200, body: 'x', headers: { connection: 'close' } })
  await closed
})

void t.test('of two pipelined answers only the last one has Connection: close, and both keep their other headers', async t => {
  const gate = createDeferred<void>()
  const { app } = await serve(t, { routes: app => addRoutes(app, () => gate.promise) })
  const client = await connect(app)
  const list = Object.keys(ways).indexOf('writeHead() with a list')
  client.send(get(`/${list}`) + get(`/${list}`))
  await eventually(() => app.shutdownState.activeRequests === 2, () => app.shutdownState)
  const closed = app.close()
  await entered(app, 'draining')
  gate.resolve()
  t.match(await client.answer(), { status: 200, headers: { connection: 'keep-alive', 'keep-alive': 'timeout=99', 'set-cookie': 'b=2' } })
  t.match(await client.answer(), { status: 200, headers: { connection: 'close', 'keep-alive': undefined, 'set-cookie': 'b=2' } })
  await closed
})

void t.test('an answer keeps all of its headers, in each form in which writeHead gets them', async t => {
  const cookies = ['a=1', 'b=2']
  const forms: Record<string, unknown> = {
    'a list': ['Set-Cookie', 'a=1', 'Set-Cookie', 'b=2', 'Content-Length', '1'],
    'a list with several values': ['Set-Cookie', cookies, 'Content-Length', '1'],
    pairs: [['Set-Cookie', 'a=1'], ['Set-Cookie', 'b=2'], ['Content-Length', '1']],
    'pairs with several values': [['Set-Cookie', cookies], ['Content-Length', '1']],
    'an object': { 'Set-Cookie': cookies, 'Content-Length': 1 },
    'an object with a name in two cases': { 'Set-Cookie': 'a=1', 'set-cookie': 'b=2', 'Content-Length': 1 }
  }
  const extras: Record<string, readonly [name: string, value: string]> = {
    'no Connection': ['X-Extra', '1'],
    'Connection: keep-alive': ['Connection', 'keep-alive']
  }
  const answers = [200, 503].flatMap(status => Object.entries(forms).flatMap(([form, given]) => Object.entries(extras).map(([extra, [name, value]]) => {
    const isPairs = Array.isArray(given) && Array.isArray(given[0])
    const headers = !Array.isArray(given) ? { ...given as object, [name]: value } : [...given, ...isPairs ? [[name, value]] : [name, value]]
    return { title: `${status}, ${form}, ${extra}`, status, headers: headers as string[] }
  })))
  const gate = createDeferred<void>()
  const { app } = await serve(t, {
    routes: app => {
      app.get('/:index', async (request, reply) => {
        await gate.promise
        const { status, headers } = answers[Number((request.params as { index: string }).index)]!
        reply.hijack().raw.writeHead(status, headers).end('x')
      })
    }
  })
  const clients = await Promise.all(answers.map(() => connect(app)))
  clients.forEach((client, index) => client.send(get(`/${index}`)))
  await eventually(() => app.shutdownState.activeRequests === clients.length, () => app.shutdownState)
  const closed = app.close()
  await entered(app, 'draining')
  gate.resolve()
  for (const [index, { title, status }] of answers.entries()) {
    const text = await clients[index]!.until('\r\n\r\nx')
    t.ok(text.startsWith(`HTTP/1.1 ${status}`), title)
    t.strictSame(text.match(/(?<=^set-cookie: ).*(?=\r$)/gim), cookies, title)
    t.strictSame(text.match(/(?<=^connection: ).*(?=\r$)/gim), ['close'], title)
    t.strictSame(text.match(/(?<=^retry-after: ).*(?=\r$)/gim), status === 503 ? ['10'] : null, title)
  }
  await closed
})

void t.test('20 keep-alive clients of a route that sets Connection: keep-alive see no reset on a connection that they use again', async t => {
  const { app, report } = await serve(t, {
    options: { delay: 500 },
    routes: app => { app.get('/', (_request, reply) => reply.header('connection', 'keep-alive').send('x')) }
  })
  const port = portOf(app)
  const agent = new http.Agent({ keepAlive: true, maxSockets: 20 })
  t.teardown(() => agent.destroy())
  const seen: Record<string, number> = {}
  const clients = Array.from({ length: 20 }, async () => {
    while (app.shutdownState.phase !== 'shutdown') {
      const result = await new Promise<string>(resolve => {
        http.get({ port, agent }, response => response.resume().once('end', () => resolve(String(response.statusCode))))
          // A new connection may be reset in the accept queue, when the server stops listening.
          .once('error', function (this: http.ClientRequest, error: NodeJS.ErrnoException) { resolve(this.reusedSocket ? error.code ?? error.message : 'new connection') })
      })
      seen[result] = (seen[result] ?? 0) + 1
    }
  })
  await eventually(() => app.shutdownState.stats.received > 200, () => app.shutdownState)
  t.match(await app.shutdown.start(), { outcome: 'clean' })
  await Promise.all(clients)
  t.same(Object.keys(seen).filter(result => result !== '200' && result !== 'new connection'), [], JSON.stringify(seen))
  t.ok((await report).requests.completed > 20)
})
