/**
 * Clients that leave. Their request stays in flight until its handler has ended, and the counts return to exactly 0.
 * `timeouts.requests` is the last resort, so most tests leave it at 30 s.
 */
import { once } from 'node:events'
import http2 from 'node:http2'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import fastifyStatic from '@fastify/static'
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify'
import t, { type Test } from 'tap'
import { createDeferred } from '../../lib/util/deferred'
import { abort, connect, eventually, get, openSession } from '../helpers/client'
import { serve, type Setup } from '../helpers/serve'

const never = (): Promise<void> => new Promise(() => {})
/** A source that never ends. Its pace is of no importance. */
const endless = (): Readable => new Readable({ read () { setTimeout(() => this.push('x'.repeat(1_000)), 1) } })

/** All received requests are over, and a request without a client is not counted as completed. */
async function countsReturnToZero (t: Test, app: FastifyInstance, received: number): Promise<void> {
  await eventually(() => app.shutdownState.stats.received === received, () => app.shutdownState.stats)
  await eventually(() => app.shutdownState.activeRequests + app.shutdownState.activeStreams === 0, () => app.shutdownState.stats)
  const { completed, rejected, aborted, cut } = app.shutdownState.stats
  t.equal(completed + rejected + aborted + cut, received, 'each request is counted once')
  t.strictSame(app.shutdownState.requests(), [])
  const report = await app.shutdown.start()
  t.match(report, { outcome: 'clean', exitCode: 0 }, 'the shutdown waits for no request')
  t.ok(report.durationMs < 5_000, `took ${report.durationMs} ms`)
}

/** Sends one request over HTTP/1.1, and resets the connection once the handler or hook has begun. */
async function leave (app: FastifyInstance, began: Promise<unknown>, bytes = get('/')): Promise<void> {
  const client = await connect(app)
  client.send(bytes)
  await began
  abort(client.socket)
}

t.test('a client that leaves over HTTP/2', async t => {
  const folder = t.testdir()
  writeFileSync(join(folder, 'file'), 'x'.repeat(1_000_000))
  const handlers: Record<string, RouteHandlerMethod> = {
    'reply.send(stream)': (_request, reply) => { reply.send(endless()) },
    'return reply.send(stream)': (_request, reply) => reply.send(endless()),
    'return reply.send(stream) in an async handler': async (_request, reply) => reply.send(endless()),
    'a stream that an async handler returns': async () => endless(),
    'a stream, after a moment': async (_request, reply) => {
      await sleep(2)
      return reply.send(endless())
    },
    'a web stream, after a moment': async () => {
      await sleep(2)
      return new ReadableStream({ pull: never })
    },
    'a text, after a moment': async () => {
      await sleep(2)
      return 'text'
    },
    'reply.sendFile()': (_request, reply) => reply.sendFile('file'),
    'return reply.sendFile() in an async handler': async (_request, reply) => reply.sendFile('file')
  }
  for (const [name, handler] of Object.entries(handlers)) {
    // The time is the thing under test: the client leaves before, in and after the moment in which the handlers respond.
    for (const after of [0, 2, 5]) {
      await t.test(`${name} returns the counts to 0 if it is cancelled after ${after} ms`, async t => {
        const { app } = await serve(t, {
          fastify: { http2: true },
          routes: async app => {
            await app.register(fastifyStatic, { root: folder, serve: false })
            app.get('/', handler)
          }
        })
        const { session, request } = openSession(app)
        await Promise.all(Array.from({ length: 100 }, async () => {
          const stream = request({ ':path': '/' }).resume()
          if (after > 0) await sleep(after)
          const closed = once(stream, 'close')
          stream.close(http2.constants.NGHTTP2_CANCEL)
          await closed
        }))
        // The client has received everything that the server sent before.
        await new Promise(resolve => { session.ping(resolve) })
        session.close()
        await countsReturnToZero(t, app, app.shutdownState.stats.received)
      })
    }
  }

  await t.test('streams that are reset right after their heads (a rapid reset) return the counts to 0', async t => {
    const { app } = await serve(t, { fastify: { http2: true }, routes: app => { app.get('/', handlers['return reply.send(stream) in an async handler']!) } })
    for (let round = 0; round < 10; round++) {
      const { session, request } = openSession(app)
      await once(session, 'connect')
      for (let count = 0; count < 90; count++) {
        const stream = request({ ':path': '/' })
        stream.close(http2.constants.NGHTTP2_CANCEL)
      }
      await new Promise(resolve => { session.ping(resolve) })
      session.close()
    }
    await countsReturnToZero(t, app, app.shutdownState.stats.received)
  })

  await t.test('a HEAD that is answered through its stream returns the counts to 0', async t => {
    const { app } = await serve(t, {
      fastify: { http2: true },
      routes: app => {
        app.get('/', (_request, reply) => {
          reply.hijack()
          const { stream } = reply.raw as unknown as { stream: http2.ServerHttp2Stream }
          stream.respond({ ':status': 200 })
          stream.end('text')
        })
      }
    })
    const { session, request } = openSession(app)
    for (const method of ['GET', 'HEAD']) await once(request({ ':path': '/', ':method': method }).resume(), 'close')
    session.close()
    await countsReturnToZero(t, app, 2)
  })

  await t.test('a session that is destroyed with its streams in flight returns the counts to 0', async t => {
    const { app } = await serve(t, { fastify: { http2: true }, routes: app => { app.get('/', handlers['reply.send(stream)']!) } })
    const { session, request } = openSession(app)
    const streams = Array.from({ length: 50 }, () => request({ ':path': '/' }))
    await Promise.all(streams.map(stream => once(stream, 'response')))
    session.destroy()
    await countsReturnToZero(t, app, 50)
  })
})

t.test('a connection that is reset with pipelined requests in flight', async t => {
  const rows: Record<string, { readonly paths: readonly string[], readonly routes: (app: FastifyInstance) => void }> = {
    'a slow answer and a stream': {
      paths: ['/slow', '/stream'],
      routes (app) {
        app.get('/slow', async request => { await once(request.raw.socket, 'close') })
        app.get('/stream', (_request, reply) => reply.send(endless()))
      }
    },
    'a slow answer and an async handler that returns its reply': {
      paths: ['/slow', '/stream', '/stream'],
      routes (app) {
        app.get('/slow', async request => { await once(request.raw.socket, 'close') })
        app.get('/stream', async (_request, reply) => reply.send(endless()))
      }
    },
    'a stream and a slow answer': {
      paths: ['/stream', '/slow', '/stream'],
      routes (app) {
        app.get('/slow', async request => { await once(request.raw.socket, 'close') })
        app.get('/stream', (_request, reply) => reply.send(endless()))
      }
    },
    'answers that are ready and one that never comes': {
      paths: ['/slow', '/text', '/text', '/text'],
      routes (app) {
        app.get('/slow', async request => { await once(request.raw.socket, 'close') })
        app.get('/text', async () => 'text')
      }
    },
    'handlers that await their reply': {
      paths: ['/slow', '/await'],
      routes (app) {
        app.get('/slow', async request => { await once(request.raw.socket, 'close') })
        app.get('/await', async (_request, reply) => {
          reply.send('text')
          await reply
        })
      }
    }
  }
  for (const [name, { paths, routes }] of Object.entries(rows)) {
    await t.test(name, async t => {
      const { app } = await serve(t, { routes })
      const connections = 30
      for (let count = 1; count <= connections; count++) {
        const client = await connect(app)
        client.send(paths.map(path => get(path)).join(''))
        await eventually(() => app.shutdownState.stats.received === count * paths.length, () => app.shutdownState)
        abort(client.socket)
      }
      await countsReturnToZero(t, app, connections * paths.length)
    })
  }
})

t.test('a detached handler that never ends is abandoned after timeouts.requests', async t => {
  const handlers: Record<string, RouteHandlerMethod> = {
    'an async handler': never,
    'a thenable that never settles': () => ({ then () {} }),
    'an async handler that hijacks': async (_request, reply) => {
      reply.hijack()
      await never()
    },
    'an async handler that awaits its reply': async (_request, reply) => { await reply },
    'a handler that returns its reply': (_request, reply) => reply,
    'a callback handler': () => {},
    'a stream that never closes': (_request, reply) => {
      const source = new Readable({ read () {}, destroy () {} })
      source.push('begun')
      return reply.send(source)
    }
  }
  for (const [name, handler] of Object.entries(handlers)) {
    await t.test(name, async t => {
      let began = (): void => {}
      const begun = new Promise<void>(resolve => { began = resolve })
      const { app } = await serve(t, {
        options: { timeouts: { requests: 300 } },
        routes: app => {
          app.get('/', function (request, reply) {
            began()
            return handler.call(this, request, reply) as undefined
          })
        }
      })
      await leave(app, begun)
      await countsReturnToZero(t, app, 1)
    })
  }
  await t.test('a hook before the handler', async t => {
    let began = (): void => {}
    const begun = new Promise<void>(resolve => { began = resolve })
    const { app } = await serve(t, {
      options: { timeouts: { requests: 300 } },
      routes: app => {
        app.addHook('preHandler', async () => {
          began()
          await never()
        })
        app.get('/', async () => 'text')
      }
    })
    await leave(app, begun)
    await countsReturnToZero(t, app, 1)
  })
})

t.test('a response that the server destroys or ends by itself', async t => {
  const ends: Record<string, (request: FastifyRequest, reply: FastifyReply) => unknown> = {
    'reply.raw.destroy()': (_request, reply) => reply.raw.destroy(),
    'reply.raw.destroy(error)': (_request, reply) => reply.raw.destroy(new Error('no')),
    'socket.destroy()': request => request.raw.socket.destroy(),
    'socket.resetAndDestroy()': request => request.raw.socket.resetAndDestroy(),
    'reply.hijack() and raw.destroy()': (_request, reply) => {
      reply.hijack()
      reply.raw.destroy()
    },
    'reply.hijack() and raw.end()': (_request, reply) => {
      reply.hijack()
      reply.raw.end('raw')
    }
  }
  const places: Record<string, (end: (request: FastifyRequest, reply: FastifyReply) => unknown) => Setup['routes']> = {
    'an onRequest hook that goes no further': end => app => {
      app.addHook('onRequest', (request, reply, _done) => { end(request, reply) })
      app.get('/', async () => 'text')
    },
    'an async onRequest hook': end => app => {
      app.addHook('onRequest', async (request, reply) => { end(request, reply) })
      app.get('/', async () => 'text')
    },
    'an onRequest hook that goes on': end => app => {
      app.addHook('onRequest', (request, reply, done) => {
        end(request, reply)
        done()
      })
      app.get('/', async () => 'text')
    },
    'a preHandler hook that goes no further': end => app => {
      app.addHook('preHandler', (request, reply, _done) => { setImmediate(() => end(request, reply)) })
      app.get('/', async () => 'text')
    },
    'a callback handler': end => app => {
      app.get('/', (request, reply) => { setImmediate(() => end(request, reply)) })
    },
    'an async handler': end => app => {
      app.get('/', async (request, reply) => { end(request, reply) })
    }
  }
  for (const [place, routes] of Object.entries(places)) {
    for (const [what, end] of Object.entries(ends)) {
      await t.test(`${what} in ${place}`, async t => {
        const { app } = await serve(t, { routes: routes(end)! })
        const client = await connect(app)
        client.send(get('/', { Connection: 'close' }))
        await client.over
        await countsReturnToZero(t, app, 1)
      })
    }
  }
  for (const place of Object.keys(places)) {
    await t.test(`reply.raw.destroy() in ${place}, over HTTP/2`, async t => {
      const { app } = await serve(t, { fastify: { http2: true }, options: { timeouts: { requests: 2_000 } }, routes: places[place]!(ends['reply.raw.destroy()']!)! })
      const { session, request } = openSession(app)
      const stream = request({ ':path': '/' }).resume()
      await once(stream, 'close')
      session.close()
      await countsReturnToZero(t, app, 1)
    })
  }
})

t.test('a client that leaves before a slow web stream begins returns the counts to 0', async t => {
  let began = (): void => {}
  const begun = new Promise<void>(resolve => { began = resolve })
  const { app } = await serve(t, {
    routes: app => {
      app.get('/', async request => {
        began()
        await once(request.raw.socket, 'close')
        return new ReadableStream({ pull: never })
      })
    }
  })
  await leave(app, begun)
  await countsReturnToZero(t, app, 1)
})

for (const track of ['count', 'detail'] as const) {
  t.test(`a client that leaves while a hook of an earlier plugin runs: no resource closes under the handler (track '${track}')`, async t => {
    const [hook, handler, answer] = [createDeferred<void>(), createDeferred<void>(), createDeferred<void>()]
    const order: string[] = []
    let began = (): void => {}
    const begun = new Promise<void>(resolve => { began = resolve })
    const { app } = await serve(t, {
      options: { track, resources: { database: { close () { order.push('database') } } } },
      before: app => {
        app.addHook('onRequest', async () => {
          began()
          await hook.promise
        })
      },
      routes: app => {
        app.get('/', async request => {
          handler.resolve()
          await answer.promise
          order.push(request.shutdownSignal.aborted ? 'handler' : 'handler that is not told')
          return 'text'
        })
      }
    })
    await leave(app, begun)
    await eventually(() => app.shutdownState.stats.aborted === 1, () => app.shutdownState.stats)
    hook.resolve()
    await handler.promise
    t.match(app.shutdownState.stats, { received: 1, aborted: 0 }, 'it is in flight again')
    t.equal(app.shutdownState.activeRequests, 1)
    const report = app.shutdown.start()
    await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
    answer.resolve()
    t.match(await report, { outcome: 'clean', requests: { completed: 0, cut: [] } })
    t.match(app.shutdownState.stats, { received: 1, aborted: 1 })
    t.strictSame(order, ['handler', 'database'])
  })
}
