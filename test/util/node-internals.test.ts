/** The shutdown works without each private part of Node, Fastify and ws that it uses. */
import { channel, type Channel } from 'node:diagnostics_channel'
import { EventEmitter } from 'node:events'
import { type RequestListener, type Server, ServerResponse, IncomingMessage, createServer } from 'node:http'
import { Server as NetServer, Socket } from 'node:net'
import fastifyWebsocket from '@fastify/websocket'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import internals = require('../../lib/util/node-internals')
import replaced = require('../../lib/util/replaced-methods')
import replacedOfResponse = require('../../lib/util/replaced-response-methods')
import { createConnections } from '../../lib/http/connections'
import { connect, eventually, fetchOnce, get, portOf, post } from '../helpers/client'
import { build, entered, giveLocalhostTwoAddresses, rejected, serve, serveHeld } from '../helpers/serve'

type Stubs = Record<string, (...args: never[]) => unknown>

/** For one test, a function behind the door returns what it returns without the internal. */
function stub (t: Test, module: object, name: string, fn: (...args: never[]) => unknown): void {
  const stubs = module as Stubs
  const original = stubs[name]!
  t.teardown(() => { stubs[name] = original })
  stubs[name] = fn
}

/** A real shutdown that answers its request in flight. */
async function shutsDown (t: Test, name: string, fn: (...args: never[]) => unknown, module: object = internals): Promise<void> {
  stub(t, module, name, fn)
  const { app, holder, release, report } = await serveHeld(t)
  const idle = await connect(app)
  idle.send(get('/nowhere'))
  await idle.answer()
  const closed = app.close()
  await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
  release()
  t.match(await holder.answer(), { status: 200, body: 'held' })
  await closed
  t.match(await report, { outcome: 'clean', requests: { completed: 1, aborted: 0, cut: [] } })
  t.match(await Promise.all([holder.over, idle.over]), ['end', 'end'])
}

t.test('private properties', async t => {
  await t.test('_httpMessage: without it every request has an entry', async t => {
    t.equal(internals.currentResponse(new Socket()), undefined)
    await shutsDown(t, 'currentResponse', () => undefined)
  })

  await t.test("the route's context: without it the 503 goes through the error handler", async t => {
    t.equal(internals.usesDefaultErrorHandler({} as FastifyRequest), false)
    stub(t, internals, 'usesDefaultErrorHandler', () => false)
    const { app, release } = await serveHeld(t)
    const closed = app.close()
    await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
    t.match(await fetchOnce(app, get('/')), rejected)
    release()
    await closed
  })

  await t.test("the route's context: without it a route that was added earlier is not observed", async t => {
    t.equal(internals.routeContextOf({} as FastifyRequest), undefined)
    t.equal(internals.hooksOf({} as FastifyInstance), undefined)
    stub(t, internals, 'routeContextOf', () => undefined)
    const { app, report } = await serve(t, { awaitRegister: false, routes: app => { app.get('/', async () => 'text') } })
    t.match(await fetchOnce(app, get('/')), { status: 200, body: 'text' })
    await app.close()
    t.match(await report, { outcome: 'clean', requests: { completed: 0, aborted: 0 } })
  })

  await t.test('the list of the parsers: without it idle connections end last', async t => {
    t.same(internals.socketsBetweenRequests(new EventEmitter() as Server), [])
    const server = createServer()
    for (const symbol of Object.getOwnPropertySymbols(server)) Reflect.deleteProperty(server, symbol)
    t.same(internals.socketsBetweenRequests(server), [])
    await shutsDown(t, 'socketsBetweenRequests', () => [])
  })

  await t.test('_idleStart: without it no connection counts as in use', async t => {
    const socket = new Socket()
    t.equal(internals.idleTimeOf(socket, 0), undefined)
    socket.setTimeout(1_000)
    const idleTime = internals.idleTimeOf(socket, internals.loopTime())
    t.ok(idleTime !== undefined && idleTime >= 0 && idleTime < 1_000, String(idleTime))
    socket.setTimeout(0)
    await shutsDown(t, 'idleTimeOf', () => undefined)
  })

  await t.test('_contentLength: without it the headers of writeHead() alone are not known', async t => {
    const res = new ServerResponse(new IncomingMessage(new Socket()))
    res.writeHead(200, { 'content-length': '5' })
    t.equal(internals.contentLengthOf(res), 5)
    Reflect.deleteProperty(res, '_contentLength')
    t.equal(internals.contentLengthOf(res), undefined)
    const other = new ServerResponse(new IncomingMessage(new Socket()))
    other.setHeader('content-length', 7)
    Reflect.deleteProperty(other, '_contentLength')
    t.equal(internals.contentLengthOf(other), 7)
    await shutsDown(t, 'contentLengthOf', () => undefined)
  })

  await t.test("Fastify's list of hooks: without it the hooks that were added before the plugin are not waited for", async t => {
    t.same(internals.hookListsOf({} as FastifyInstance), [])
    t.doesNotThrow(() => replaced.replaceHooks({} as FastifyInstance, ['onResponse'], () => t.fail('there is none')))
    const calls: string[] = []
    stub(t, internals, 'hookListsOf', () => [])
    const { app } = await serve(t, {
      before (app) { app.addHook('onResponse', async () => { calls.push('before') }) },
      routes (app) { app.addHook('onResponse', async () => { calls.push('after') }) }
    })
    t.match(await fetchOnce(app, get('/')), { status: 404 })
    t.match(await app.shutdown.start(), { outcome: 'clean' })
    t.same(calls, ['before', 'after'])
  })

  await t.test('_handle.listen: without it the queue keeps its length', async t => {
    t.doesNotThrow(() => internals.setQueueLength(new EventEmitter() as Server, 0))
    t.doesNotThrow(() => internals.setQueueLength({ _handle: {} } as unknown as Server, 0))
    await shutsDown(t, 'setQueueLength', () => {})
  })

  await t.test('_connectionKey: without it no socket counts as bound here', async t => {
    const app = (await serve(t)).app
    t.equal(internals.isBoundHere(app.server), true)
    Reflect.deleteProperty(app.server, '_connectionKey')
    t.equal(internals.isBoundHere(app.server), false)
    await app.close()
    t.equal(app.server.listening, false)
  })

  await t.test('net.Server: a server that is not one, as in Bun, still has its lame-duck and its drain', async t => {
    t.equal(internals.isServer(undefined), false)
    t.equal(internals.isServer(new EventEmitter()), false)
    t.equal(internals.isServer({ listening: true, closeIdleConnections () {} }), false)
    t.teardown(() => Reflect.deleteProperty(NetServer, Symbol.hasInstance))
    const { app, holder, release, report } = await serveHeld(t, {
      options: { delay: 50 },
      fastify: {
        serverFactory (handler: RequestListener) {
          const server = createServer(handler)
          // Not before, because the constructor of Node needs it.
          Object.defineProperty(NetServer, Symbol.hasInstance, { value: () => false, configurable: true })
          return server
        }
      }
    })
    t.equal(app.server instanceof NetServer, false)
    const idle = await connect(app)
    idle.send(get('/nowhere'))
    await idle.answer()
    const port = portOf(app)
    void app.shutdown.start()
    await entered(app, 'draining')
    t.equal(app.server.listening, false)
    await t.rejects(fetchOnce(port, get('/')), { code: 'ECONNREFUSED' })
    release()
    t.match(await holder.answer(), { status: 200, body: 'held' })
    t.match(await report, { outcome: 'clean', phases: [{ phase: 'lame-duck' }], requests: { completed: 1, cut: [] } })
    t.match(await Promise.all([holder.over, idle.over]), ['end', 'end'])
  })

  await t.test('_parent: without it a TLS connection is counted twice, and no longer than it is open', async t => {
    t.equal(internals.plainSocketOf(new Socket()), undefined)
    const server = new EventEmitter() as Server
    const connections = createConnections(() => {})
    connections.attach(server)
    const [plain, secure] = [new Socket(), new Socket()]
    server.emit('connection', plain)
    server.emit('secureConnection', secure)
    t.equal(connections.all().length, 2)
    for (const socket of [plain, secure]) socket.emit('close')
    t.equal(connections.all().length, 0)
  })

  await t.test('_closed: without it close is still emitted for an answer that waits behind another', async t => {
    const res = new ServerResponse(new IncomingMessage(new Socket()))
    Object.defineProperty(res, '_closed', { value: false, writable: false })
    t.doesNotThrow(() => internals.markClosed(res))
    t.equal(res.destroyed, true)
    stub(t, internals, 'markClosed', () => {})
    const { app, report } = await serve(t, { options: { timeouts: { requests: 100 } }, routes: app => { app.get('/wait', () => {}) } })
    const client = await connect(app)
    client.send(get('/wait') + get('/wait'))
    await eventually(() => app.shutdownState.activeRequests === 2, () => app.shutdownState)
    client.socket.destroy()
    await app.close()
    t.match(await report, { requests: { completed: 0 } })
  })

  await t.test('the bindings of Fastify: without them a secondary server is found with its first request', async t => {
    t.same(internals.secondaryServersOf({} as FastifyInstance), [])
    stub(t, internals, 'secondaryServersOf', () => [])
    giveLocalhostTwoAddresses(t)
    const { app, report } = await build(t, { routes: app => { app.get('/', async () => 'here') } })
    await app.listen({ port: 0, host: 'localhost' })
    const client = await connect(portOf(app), '127.0.0.2')
    client.send(get('/'))
    t.match(await client.answer(), { status: 200, body: 'here' })
    await app.close()
    t.equal(await client.over, 'end')
    t.match(await report, { outcome: 'clean', requests: { completed: 0 } })
  })
})

t.test('private parts of ws', async t => {
  for (const missing of ['webSocketOf', 'isInsideMessage'] as const) {
    await t.test(`${missing}: without it a WebSocket still gets close code 1001`, async t => {
      t.notOk(internals.webSocketOf(new Socket()))
      t.equal(internals.isInsideMessage({ readyState: 1, send () {}, close () {}, prependListener () {} }), false)
      stub(t, internals, missing, missing === 'webSocketOf' ? () => undefined : () => false)
      const { app, report } = await serve(t, {
        routes: async app => {
          await app.register(fastifyWebsocket)
          app.register(async app => { app.get('/', { websocket: true }, () => {}) })
        }
      })
      const socket = new WebSocket(`ws://127.0.0.1:${portOf(app)}/`)
      await new Promise(resolve => socket.once('open', resolve))
      const code = new Promise(resolve => socket.once('close', resolve))
      await app.close()
      t.equal(await code, 1001)
      t.match(await report, { outcome: 'clean', webSockets: { closed: 1, terminated: 0 } })
    })
  }
})

t.test('replaceMethod', async t => {
  const make = (): { greet(): string } => new (class { greet (): string { return 'hello' } })()

  await t.test('restores a method of the class, and one of the object', async t => {
    const object = make()
    const restore = replaced.replaceMethod(object, 'greet', original => () => `${original()} you`)
    t.equal(object.greet(), 'hello you')
    restore()
    t.equal(object.greet(), 'hello')
    t.notOk(Object.hasOwn(object, 'greet'))
    const own = { greet: () => 'own' }
    const { greet } = own
    replaced.replaceMethod(own, 'greet', () => () => 'ours')()
    t.equal(own.greet, greet)
  })

  await t.test('keeps a later replacement, and forwards to the method that was there', async t => {
    const object = make()
    const restore = replaced.replaceMethod(object, 'greet', () => () => 'ours')
    const { greet } = object
    object.greet = () => `later ${greet()}`
    restore()
    t.equal(object.greet(), 'later hello')
  })

  await t.test('does nothing where the method is missing or cannot be replaced', async t => {
    const empty = {} as { greet(): string }
    replaced.replaceMethod(empty, 'greet', () => () => 'ours')()
    t.notOk('greet' in empty)
    const frozen = Object.freeze(make())
    replaced.replaceMethod(frozen, 'greet', () => () => 'ours')()
    t.equal(frozen.greet(), 'hello')
    replaced.overrideMethod(frozen, 'greet', () => 'ours')
    t.equal(frozen.greet(), 'hello')
  })
})

t.test('replaced methods', async t => {
  for (const method of ['keepConnections', 'failListen', 'keepAddress'] as const) {
    await t.test(`${method}: the app closes without it`, async t => await shutsDown(t, method, () => () => {}, replaced))
  }
  for (const [method, name] of [['delayDestroy', 'destroySoon'], ['destroyWhenFlushed', 'destroySoon'], ['dropBody', 'push']] as const) {
    await t.test(`${method}: the app closes without ${name}`, async t => await shutsDown(t, method, () => {}, replaced))
  }
  for (const method of ['replaceFailure', 'ignoreWrites', 'changeHead'] as const) {
    await t.test(`${method}: the app closes without writeHead`, async t => await shutsDown(t, method, () => {}, replacedOfResponse))
  }

  await t.test('a socket without destroySoon is not changed', async t => {
    t.doesNotThrow(() => replaced.destroyWhenFlushed(new EventEmitter() as Socket))
    t.doesNotThrow(() => replaced.delayDestroy(new EventEmitter() as Socket, () => true))
  })

  await t.test('overrideMethod: without it, the wait for an answer ends at the timeout', async t => {
    stub(t, replaced, 'overrideMethod', () => {})
    const { app, report } = await serve(t, { options: { timeouts: { requests: 100 } }, routes: app => { app.get('/wait', () => {}) } })
    const client = await connect(app)
    client.send(get('/wait'))
    await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
    client.socket.destroy()
    await app.close()
    await report
    t.equal(app.shutdownState.activeRequests, 0)
  })

  await t.test('ignoreWrites: late code of the app is ignored with it, and throws without it', async t => {
    const late = (): ServerResponse => {
      const res = new ServerResponse(new IncomingMessage(new Socket()))
      res.writeHead(503)
      res.end()
      return res
    }
    const write = (res: ServerResponse): void => { res.setHeader('x-late', '1').writeHead(200).end('late') }
    t.throws(() => write(late()), { code: 'ERR_HTTP_HEADERS_SENT' })
    const res = late()
    replacedOfResponse.ignoreWrites(res)
    t.doesNotThrow(() => write(res))
    t.equal(res.write('late'), true)
    t.doesNotThrow(() => { res.flushHeaders() })
  })

  await t.test('a 503 for an upload arrives, and its socket has its own methods again', async t => {
    const { app, release } = await serveHeld(t, { options: { newConnections: 'answer' } })
    const closed = app.close()
    await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
    t.match(await fetchOnce(app, post('/nowhere', 'hello')), { status: 503 })
    release()
    await closed
  })

  await t.test('afterClose: without it, a silent connection keeps a server open that has its own close', async t => {
    for (const missing of [false, true]) {
      if (missing) stub(t, replaced, 'afterClose', () => () => {})
      const { app, report } = await serve(t)
      const { server } = app
      const { close } = server
      server.close = callback => close.call(server, callback)
      const silent = await connect(app)
      const closed = app.close().then(() => true)
      await eventually(() => !server.listening, () => 'listening')
      if (missing) silent.socket.destroy()
      t.ok(await closed)
      await silent.over
      // Not `sockets.silent`: Node 26, and Fastify 5.9 to 5.11, close the connection themselves.
      t.match(await report, { outcome: 'clean' })
    }
  })

  await t.test('a closed app has its own methods again', async t => {
    const { app } = await serve(t)
    await app.close()
    await eventually(() => !Object.hasOwn(app.server, 'listen'), () => Object.keys(app.server))
    for (const name of ['listen', 'address', 'closeIdleConnections'] as const) t.notOk(Object.hasOwn(app.server, name), name)
  })

  await t.test('watchSends: without it, a call gets its answer, and the close frame is sent when the time for it is up', async t => {
    stub(t, replaced, 'watchSends', () => {})
    const { app, report } = await serve(t, {
      options: { timeouts: { streams: 400 } },
      routes: async app => {
        await app.register(fastifyWebsocket)
        app.register(async app => {
          app.get('/', { websocket: true }, socket => { socket.on('message', data => { setTimeout(() => socket.send(data), 50) }) })
        })
      }
    })
    const socket = new WebSocket(`ws://127.0.0.1:${portOf(app)}/`)
    await new Promise(resolve => socket.once('open', resolve))
    const ended = Promise.all([new Promise(resolve => socket.once('message', data => resolve(String(data)))), new Promise(resolve => socket.once('close', resolve))])
    socket.send('call')
    await new Promise(resolve => { setTimeout(resolve, 20) })
    await app.close()
    t.same(await ended, ['call', 1001])
    t.match(await report, { outcome: 'clean', webSockets: { closed: 1, terminated: 0 } })
  })

  await t.test('watchWrites: a WebSocket that is not one of ws is cut when its time is up', async t => {
    stub(t, replaced, 'watchWrites', () => () => {})
    const { app, report } = await serve(t, {
      options: { timeouts: { streams: 100 } },
      routes: app => { app.server.on('upgrade', (_req, socket) => { socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n') }) }
    })
    const client = await connect(app)
    client.send(get('/', { Connection: 'Upgrade', Upgrade: 'websocket' }))
    await client.until('101')
    await app.close()
    t.match(await report, { webSockets: { closed: 0, terminated: 1 } })
  })
})

t.test('publish: without the list of subscribers, Node publishes the message', async t => {
  const target = channel('test:publish')
  const heard: unknown[] = []
  const subscriber = (message: unknown): void => { heard.push(message) }
  target.subscribe(subscriber)
  t.teardown(() => target.unsubscribe(subscriber))
  const message = {}
  internals.publish(target, message, () => {})
  const published: unknown[] = []
  const unknownChannel = { name: 'test:publish', publish (message: unknown) { published.push(message) } }
  internals.publish(unknownChannel as Channel, message, () => {})
  t.strictSame([heard, published], [[message], [message]])
})

t.test('destinationsOf: without the private symbol of pino, a log has no destination', t => {
  const destination = {}
  const key = Symbol('pino.stream')
  t.strictSame(internals.destinationsOf(Object.create({ [key]: destination }) as object), [destination], 'also through a child logger')
  const streams = { streams: [{ stream: {} }, { stream: destination }] }
  t.ok(internals.destinationsOf({ [key]: streams }).includes(destination))
  t.strictSame(internals.destinationsOf({ [key]: undefined }), [])
  t.strictSame(internals.destinationsOf({ info () {} }), [])
  t.end()
})

t.test('_writing: without it the log does not wait for a destination', t => {
  t.equal(internals.isWriting({ _writing: true }), true)
  t.equal(internals.isWriting({}), false)
  t.end()
})
