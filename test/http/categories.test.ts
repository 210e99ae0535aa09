/**
 * Categories of requests: their timeouts, the details recorded per request, and handlers that outlive their clients.
 */
import { once } from 'node:events'
import { Readable } from 'node:stream'
import type { Socket } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import gracefulShutdown from '../../lib/index'
import { createDeferred, type Deferred } from '../../lib/util/deferred'
import { connect, eventually, get, type Client } from '../helpers/client'
import { transports } from '../helpers/transports'

const http1 = transports[0]!

interface Stuck {
  readonly app: FastifyInstance
  readonly port: number
  /** One per category. A request of the category is answered when its gate resolves. */
  readonly gates: Map<string, Deferred<void>>
  /** A client with a request to this path in flight. */
  send(path: string): Promise<Client>
}

/**
 * Routes `/fast`, `/normal` and `/slow` of these categories, and `/plain` without one. Each answers when its gate
 * resolves.
 */
async function kinds (options: gracefulShutdown.Options = {}): Promise<Stuck> {
  const gates = new Map<string, Deferred<void>>()
  const { app, port } = await http1.start({ categories: { fast: 150, normal: 400, slow: 5_000 }, timeouts: { requests: 600 }, ...options }, app => {
    for (const name of ['fast', 'normal', 'slow', 'plain']) {
      gates.set(name, createDeferred<void>())
      app.get(`/${name}/:id`, name === 'plain' ? {} : { config: { shutdown: { category: name } } }, async () => {
        await gates.get(name)!.promise
        return name
      })
    }
  })
  return {
    app,
    port,
    gates,
    async send (path) {
      const before = app.shutdownState.activeRequests
      const client = await connect(port)
      client.send(get(path))
      await eventually(() => app.shutdownState.activeRequests === before + 1, () => app.shutdownState)
      return client
    }
  }
}

void t.test('categories', async t => {
  await t.test('a request is cut at the timeout of its category, while a request of a longer category completes', async t => {
    const { app, gates, send } = await kinds()
    const [fast, normal, slow] = [await send('/fast/1'), await send('/normal/1'), await send('/slow/1')]
    const began = performance.now()
    const closing = app.shutdown.start()
    const at = async (client: Client): Promise<readonly [number, number]> => [(await client.answer()).status, performance.now() - began]
    const [fastAt, normalAt] = await Promise.all([at(fast), at(normal)])
    t.equal(fastAt[0], 503)
    t.ok(fastAt[1] >= 149, `the fast request was cut after ${fastAt[1]} ms`)
    t.equal(normalAt[0], 503)
    t.ok(normalAt[1] >= 399 && normalAt[1] < 4_000, `the normal request was cut after ${normalAt[1]} ms`)
    t.ok(fastAt[1] < normalAt[1])
    gates.get('slow')!.resolve()
    t.match(await slow.answer(), { status: 200, body: 'slow' })
    const report = await closing
    t.equal(report.outcome, 'forced')
    t.match(report.requests, { completed: 1, cut: [{ method: 'GET', route: '/fast/:id', category: 'fast', ageMs: null }, { method: 'GET', route: '/normal/:id', category: 'normal' }] })
    t.match(app.shutdownState.stats, { received: 3, completed: 1, cut: 2, aborted: 0, rejected: 0 })
  })

  await t.test('the drain lasts at most as long as the longest timeout among the requests in flight', async t => {
    const { app, send } = await kinds()
    const fast = await send('/fast/1')
    const report = await app.shutdown.start()
    t.equal((await fast.answer()).status, 503)
    t.ok(report.durationMs < 4_000, `took ${report.durationMs} ms, not the 5 s of a slow request`)
  })

  await t.test('a request without a category has timeouts.requests', async t => {
    const { app, send } = await kinds()
    const plain = await send('/plain/1')
    const report = await app.shutdown.start()
    t.equal((await plain.answer()).status, 503)
    t.ok(report.durationMs >= 599 && report.durationMs < 4_000, `took ${report.durationMs} ms`)
    t.match(report.requests.cut, [{ route: '/plain/:id', category: null }])
  })

  await t.test('the total timeout, less the share of the resources, limits every category', async t => {
    const { app, send } = await kinds({ timeouts: { requests: 1_500, streams: 1_500, tasks: 1_500, total: 1_500, resources: 1_200 } })
    const slow = await send('/slow/1')
    const report = await app.shutdown.start()
    t.equal((await slow.answer()).status, 503)
    t.ok(report.durationMs >= 749 && report.durationMs < 1_500, `took ${report.durationMs} ms`)
  })

  await t.test('a stream of a category has the timeout of its category, not timeouts.streams', async t => {
    const source = new Readable({ read () {} })
    source.push('begun')
    const { app, port } = await http1.start({ categories: { export: 400 }, timeouts: { streams: 100 } }, app => {
      app.get('/', { config: { shutdown: { category: 'export' } } }, async () => source)
    })
    const client = await connect(port)
    client.send(get('/'))
    await client.until('begun')
    const closing = app.shutdown.start()
    // The time is the thing under test: longer than timeouts.streams, shorter than the timeout of the category.
    const ending = setTimeout(() => source.push('ended'), 200)
    await client.until('ended')
    source.push(null)
    t.equal((await client.answer()).body, 'begunended')
    clearTimeout(ending)
    t.equal((await closing).outcome, 'clean')
  })
})

void t.test('categorize is called for routes without a category, and its unknown results are ignored', async t => {
  const problems: string[] = []
  const { app, gates, port, send } = await kinds({
    categorize: request => {
      if (request.headers['x-kind'] === 'boom') throw new Error('boom')
      return request.headers['x-kind'] as string | undefined
    },
    exporters: [{ name: 'test', start: ({ listen }) => listen(event => { if (event.type === 'problem') problems.push(event.message) }) }]
  })
  const kind = async (path: string, header: string): Promise<void> => {
    const before = app.shutdownState.activeRequests
    const client = await connect(port)
    client.send(get(path, { 'X-Kind': header }))
    await eventually(() => app.shutdownState.activeRequests === before + 1, () => app.shutdownState)
  }
  await kind('/plain/1', 'fast')
  await kind('/slow/1', 'fast')
  await kind('/plain/2', '__proto__')
  await kind('/plain/3', 'boom')
  await send('/plain/4')
  t.same(app.shutdownState.requests().map(({ category }) => category), ['fast', 'slow', null, null, null], 'the category of the route comes first, and an unknown category counts as none')
  t.equal(problems.length, 2)
  for (const gate of gates.values()) gate.resolve()
  t.equal((await app.shutdown.start()).outcome, 'clean')
})

void t.test('a request whose 503 cannot be written is cut without it, and delays no other request', async t => {
  const problems: string[] = []
  const { app, port } = await http1.start({
    timeouts: { requests: 150 },
    exporters: [{ name: 'test', start: ({ listen }) => listen(event => { if (event.type === 'problem') problems.push(event.message) }) }]
  }, app => {
    app.get('/broken', async (_request, reply) => {
      reply.raw.writeHead = () => { throw new Error('middleware') }
      return await new Promise(() => {})
    })
    app.get('/', async () => await new Promise(() => {}))
  })
  const [broken, other] = [await connect(port), await connect(port)]
  broken.send(get('/broken'))
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  other.send(get('/'))
  await eventually(() => app.shutdownState.activeRequests === 2, () => app.shutdownState)
  const report = await app.shutdown.start()
  t.equal((await other.answer()).status, 503)
  await broken.over
  t.equal(broken.rest, '')
  t.match(report, { outcome: 'failed', errors: [{ message: /503 could not be written.*middleware/ }], requests: { cut: [{ route: '/broken' }, { route: '/' }] } })
  t.equal(problems.length, 1)
})

void t.test('track decides which details of a request are listed', async t => {
  for (const [track, categories, shown] of [
    ['count', {}, { method: 'GET', route: '/', ageMs: null, category: null, kind: 'request' }],
    ['category', { fast: 1_000 }, { ageMs: null, category: 'fast' }],
    ['detail', { fast: 1_000 }, { ageMs: Number, category: 'fast' }]
  ] as const) {
    await t.test(`track '${track}' lists the details that it records`, async t => {
      const gate = createDeferred<void>()
      const { app, port } = await http1.start({ track, categories, categorize: () => Object.keys(categories)[0] }, app => {
        app.get('/', async () => { await gate.promise })
      })
      t.same(app.shutdownState.requests(), [])
      const client = await connect(port)
      client.send(get('/?secret=1'))
      await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
      t.match(app.shutdownState.requests(), [{ ...shown, id: /^req-/ }])
      t.notMatch(JSON.stringify(app.shutdownState), /secret|req-/, 'the public form has no URLs and no ids')
      gate.resolve()
      await app.close()
      t.same(app.shutdownState.requests(), [])
    })
  }

  await t.test('a request of any kind can be cut by its id, and the server continues', async t => {
    const { app, port } = await http1.start({}, app => {
      app.get('/', async () => await new Promise(() => {}))
      app.get('/fine', async () => 'fine')
    })
    const [one, two] = [await connect(port), await connect(port)]
    one.send(get('/'))
    await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
    two.send(get('/'))
    await eventually(() => app.shutdownState.activeRequests === 2, () => app.shutdownState)
    const [first] = app.shutdownState.requests()
    t.equal(app.shutdown.cut('nobody'), false)
    t.equal(app.shutdown.cut(first!.id), true)
    t.match(await one.answer(), { status: 503, headers: { 'retry-after': '10' } })
    await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
    t.equal(app.shutdownState.phase, 'running')
    one.send(get('/fine'))
    t.equal((await one.answer()).body, 'fine', 'the next request on the same connection is answered')
    t.equal(app.shutdown.cut(app.shutdownState.requests()[0]!.id), true)
    t.equal((await two.answer()).status, 503)
    t.match(app.shutdownState.stats, { received: 3, completed: 1, cut: 2 })
    await app.close()
    one.socket.destroy()
  })
})

void t.test('the report lists requests cut in the shutdown, not requests cut before it', async t => {
  const { app, gates, send } = await kinds({ track: 'detail' })
  const before = await send('/plain/1')
  t.ok(app.shutdown.cut(app.shutdownState.requests()[0]!.id))
  t.equal((await before.answer()).status, 503)
  before.socket.destroy()
  const [one, two] = [await send('/slow/1'), await send('/plain/2')]
  const closing = app.shutdown.start()
  await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
  const [first] = app.shutdownState.requests()
  t.match(first, { route: '/slow/:id', category: 'slow' })
  t.ok(app.shutdown.cut(first!.id))
  t.equal((await one.answer()).status, 503)
  gates.get('plain')!.resolve()
  t.match(await two.answer(), { status: 200, body: 'plain' })
  const report = await closing
  t.match(report.requests, { completed: 1, cut: [{ route: '/slow/:id' }] })
  t.equal(report.requests.cut.length, 1)
  t.match({ outcome: report.outcome, exitCode: report.exitCode }, { outcome: 'forced', exitCode: 1 }, 'the outcome is forced, even if the app made the cut')
})

void t.test('a numeric id identifies its request as well', async t => {
  let last = 0
  const app = Fastify({ genReqId: () => ++last as unknown as string })
  await app.register(gracefulShutdown, { signals: false })
  app.get('/', async () => await new Promise(() => {}))
  await app.listen({ port: 0, host: '127.0.0.1' })
  const client = await connect(app)
  client.send(get('/'))
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  t.equal(app.shutdown.cut(1 as unknown as string), true)
  t.equal((await client.answer()).status, 503)
  client.socket.destroy()
  await app.close()
})

void t.test('request.shutdownSignal aborts when the request is cut or its client leaves', async t => {
  await t.test('the signal aborts before the cut, so that the handler can still respond', async t => {
    const reasons: unknown[] = []
    const { app, port } = await http1.start({ timeouts: { requests: 150 } }, app => {
      app.get('/', async (request, reply) => {
        await once(request.shutdownSignal, 'abort')
        reasons.push(request.shutdownSignal.reason)
        return reply.code(202).send('half of it')
      })
    })
    const client = await connect(port)
    client.send(get('/'))
    await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
    const report = await app.shutdown.start()
    t.match(await client.answer(), { status: 202, body: 'half of it', headers: { connection: 'close' } })
    t.match(reasons, [{ code: 'FST_ERR_SHUTDOWN_DRAINING' }])
    t.match(report.requests.cut, [{ route: '/' }])
  })

  await t.test('the signal aborts for a handler that throws the abort reason, too', async t => {
    const { app, port } = await http1.start({ timeouts: { requests: 150 } }, app => {
      app.get('/', async request => {
        await once(request.shutdownSignal, 'abort')
        request.shutdownSignal.throwIfAborted()
      })
    })
    const client = await connect(port)
    client.send(get('/'))
    await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
    const closing = app.shutdown.start()
    t.match(await client.answer(), { status: 503, body: /FST_ERR_SHUTDOWN_DRAINING/ })
    await closing
  })

  await t.test('the signal aborts for a hijacked request that writes a 500 by hand: none of it follows the 503', async t => {
    const { app, port } = await http1.start({ timeouts: { requests: 150 } }, app => {
      app.get('/', (request, reply) => {
        reply.hijack()
        request.shutdownSignal.addEventListener('abort', () => {
          reply.raw.writeHead(500)
          reply.raw.write('I give up')
          reply.raw.end('at once')
        })
      })
    })
    const client = await connect(port)
    client.send(get('/'))
    await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
    const closing = app.shutdown.start()
    t.match(await client.answer(), { status: 503, body: /FST_ERR_SHUTDOWN_DRAINING/ })
    await client.over
    t.equal(client.rest, '')
    await closing
  })

  await t.test('the signal aborts when the client leaves, not when the body has been read', async t => {
    const signals: AbortSignal[] = []
    const gate = createDeferred<void>()
    const { app, port } = await http1.start({}, app => {
      app.post('/', async request => {
        signals.push(request.shutdownSignal)
        t.equal(request.shutdownSignal, signals.at(-1), 'the getter returns the same signal each time')
        await gate.promise
      })
    })
    const client = await connect(port)
    client.send(get('/', { 'Content-Type': 'text/plain', 'Content-Length': '0' }, 'POST'))
    await eventually(() => signals.length === 1, () => signals)
    await new Promise(resolve => { setImmediate(resolve) })
    t.notOk(signals[0]!.aborted)
    client.socket.destroy()
    await eventually(() => signals[0]!.aborted, () => 'not aborted')
    t.match(signals[0]!.reason, { name: 'AbortError', message: 'The client has left' })
    gate.resolve()
    await app.close()
  })

  await t.test('the signal does not abort with a completed response, also if it is first read afterwards', async t => {
    const requests: { readonly shutdownSignal: AbortSignal }[] = []
    const { app, port } = await http1.start({}, app => {
      app.get('/asked', async request => {
        requests.push({ shutdownSignal: request.shutdownSignal })
        return 'ok'
      })
      app.get('/not', async request => {
        requests.push(request)
        return 'ok'
      })
    })
    const client = await connect(port)
    for (const path of ['/asked', '/not']) {
      client.send(get(path))
      await client.answer()
    }
    await eventually(() => app.shutdownState.activeRequests === 0, () => app.shutdownState)
    t.notOk(requests[0]!.shutdownSignal.aborted)
    t.notOk(requests[1]!.shutdownSignal.aborted)
    client.socket.destroy()
    await app.close()
  })
})

/** Detached handlers. `finish` ends the handler; `ended` reports its end. */
const outliving: Record<string, (app: FastifyInstance, entered: Deferred<void>, gate: Deferred<void>, ended: Deferred<void>) => void> = {
  'an async handler' (app, entered, gate, ended) {
    app.get('/', async () => {
      entered.resolve()
      await gate.promise
      ended.resolve()
      return 'done'
    })
  },
  'an async handler that returns nothing' (app, entered, gate, ended) {
    app.get('/', async () => {
      entered.resolve()
      await gate.promise
      ended.resolve()
    })
  },
  'an async handler that throws' (app, entered, gate, ended) {
    app.get('/', async () => {
      entered.resolve()
      await gate.promise
      ended.resolve()
      throw new Error('too late')
    })
  },
  'a callback handler' (app, entered, gate, ended) {
    app.get('/', (_request, reply) => {
      entered.resolve()
      void gate.promise.then(() => {
        ended.resolve()
        reply.send('done')
      })
    })
  },
  'an async handler that awaits its reply' (app, entered, gate, ended) {
    app.get('/', async (_request, reply) => {
      entered.resolve()
      void gate.promise.then(() => {
        ended.resolve()
        reply.send('done')
      })
      return await reply
    })
  },
  'an async handler that hijacks' (app, entered, gate, ended) {
    app.get('/', async (_request, reply) => {
      reply.hijack()
      reply.raw.write('begun')
      entered.resolve()
      await gate.promise
      ended.resolve()
    })
  },
  'a hook before the handler' (app, entered, gate, ended) {
    app.get('/', {
      preHandler: async () => {
        entered.resolve()
        await gate.promise
      }
    }, async () => {
      ended.resolve()
      return 'done'
    })
  },
  'a stream that has something to give back' (app, entered, gate, ended) {
    app.get('/', (_request, reply) => {
      const source = new Readable({
        read () {},
        destroy (error, callback) {
          void gate.promise.then(() => {
            ended.resolve()
            callback(error)
          })
        }
      })
      source.push('begun')
      entered.resolve()
      return reply.send(source)
    })
  },
  'a stream that an async handler returned' (app, entered, gate, ended) {
    app.get('/', async () => {
      entered.resolve()
      return Readable.from((async function * () {
        try {
          for (;;) {
            yield 'x'
            await new Promise(resolve => { setImmediate(resolve) })
          }
        } finally {
          await gate.promise
          ended.resolve()
        }
      })())
    })
  }
}

async function clientLeaves (t: Test, routes: (app: FastifyInstance, entered: Deferred<void>) => void, options: gracefulShutdown.Options = {}): Promise<FastifyInstance> {
  const entered = createDeferred<void>()
  const { app, port } = await http1.start(options, app => routes(app, entered))
  const accepted = once(app.server, 'connection')
  const client = await connect(port)
  client.send(get('/'))
  await entered.promise
  const [socket] = await accepted as [Socket]
  const gone = new Promise(resolve => { socket.once('close', resolve) })
  client.socket.destroy()
  await gone
  t.equal(app.shutdownState.stats.received, 1)
  return app
}

void t.test('a detached handler', async t => {
  for (const [name, routes] of Object.entries(outliving)) {
    await t.test(`${name}: no resource closes before the handler ends, and the request is counted once`, async t => {
      const [gate, ended] = [createDeferred<void>(), createDeferred<void>()]
      const order: string[] = []
      void ended.promise.then(() => order.push('handler'))
      const app = await clientLeaves(t, (app, entered) => {
        routes(app, entered, gate, ended)
        app.shutdown.resource('database', { close () { order.push('database') } })
      })
      const inFlight = (): number => app.shutdownState.activeRequests + app.shutdownState.activeStreams
      t.equal(inFlight(), 1, 'the request is still counted')
      const closing = app.shutdown.start()
      await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
      for (let turn = 0; turn < 5; turn++) await new Promise(resolve => { setImmediate(resolve) })
      t.same(order, [])
      gate.resolve()
      const report = await closing
      t.same(order, ['handler', 'database'])
      t.equal(report.outcome, 'clean')
      t.ok(report.durationMs < 5_000, `took ${report.durationMs} ms`)
      t.equal(inFlight(), 0)
      t.match(app.shutdownState.stats, { received: 1, aborted: 1, completed: 0, cut: 0 })
    })
  }

  for (const [name, handler] of Object.entries({
    'that hijacked and listens to the close of its request': (app: FastifyInstance, entered: Deferred<void>) => {
      app.get('/', (request, reply) => {
        reply.hijack()
        request.raw.on('close', () => {})
        entered.resolve()
      })
    },
    'that hijacked and listens to the close of its response': (app: FastifyInstance, entered: Deferred<void>) => {
      app.get('/', (_request, reply) => {
        reply.hijack()
        reply.raw.once('close', () => {})
        entered.resolve()
      })
    },
    'that hijacked and streams by hand': (app: FastifyInstance, entered: Deferred<void>) => {
      app.get('/', (_request, reply) => {
        reply.hijack()
        reply.raw.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
        entered.resolve()
      })
    },
    'that wrote by hand': (app: FastifyInstance, entered: Deferred<void>) => {
      app.get('/', (_request, reply) => {
        reply.raw.write('begun')
        entered.resolve()
      })
    },
    'that sent a stream which closes': (app: FastifyInstance, entered: Deferred<void>) => {
      app.get('/', (_request, reply) => {
        reply.send(new Readable({ read () {} }))
        reply.raw.flushHeaders()
        entered.resolve()
      })
    }
  })) {
    await t.test(`a request of ${name} is over when its client leaves`, async t => {
      const app = await clientLeaves(t, handler)
      await eventually(() => app.shutdownState.activeRequests + app.shutdownState.activeStreams === 0, () => app.shutdownState)
      t.equal(app.shutdownState.stats.aborted, 1)
      await app.close()
    })
  }

  await t.test('a detached handler that never ends is abandoned at its timeout', async t => {
    const app = await clientLeaves(t, (app, entered) => { app.get('/', () => { entered.resolve() }) }, { timeouts: { requests: 300 } })
    t.equal(app.shutdownState.activeRequests, 1)
    await eventually(() => app.shutdownState.activeRequests === 0, () => app.shutdownState)
    t.equal(app.shutdownState.stats.aborted, 1)
    const report = await app.shutdown.start()
    t.equal(report.outcome, 'clean')
  })

  await t.test('a detached handler that never ends does not delay a shutdown beyond its timeout', async t => {
    const app = await clientLeaves(t, (app, entered) => { app.get('/', () => { entered.resolve() }) }, { timeouts: { requests: 300 } })
    const report = await app.shutdown.start()
    t.ok(report.durationMs < 5_000, `took ${report.durationMs} ms`)
    const { received, completed, rejected, aborted, cut } = app.shutdownState.stats
    t.equal(received, completed + rejected + aborted + cut)
    t.equal(app.shutdownState.activeRequests, 0)
  })
})
