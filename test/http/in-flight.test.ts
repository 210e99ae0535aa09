/**
 * Every request is counted once when it begins and once when it is over: the count returns to 0 and is never negative.
 * One test for each way in which a request can end and for which Fastify's own hooks miscount.
 */
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import http2 from 'node:http2'
import type { Socket } from 'node:net'
import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { createDeferred } from '../../lib/util/deferred'
import { connect, eventually, get, openSession, post, type Client } from '../helpers/client'
import { Fastify } from '../helpers/fastify'
import { serve, type Setup } from '../helpers/serve'

type Counts = Partial<Record<'completed' | 'rejected' | 'aborted' | 'cut', number>>

interface Row extends Omit<Setup, 'options'> {
  readonly name: string
  /** Acts as the client. */
  readonly drive: (app: FastifyInstance, client: () => Promise<Client>) => Promise<unknown>
  readonly counts: Counts
}

const inFlight = ({ shutdownState: { activeRequests, activeStreams } }: FastifyInstance): number => activeRequests + activeStreams

/** Sends one request, and checks the status of its response. */
const asks = (bytes: string, status: number | readonly number[], head = false): Row['drive'] => async (_app, client) => {
  const { send, answer } = await client()
  send(bytes)
  const { status: came } = await answer(head)
  if (![status].flat().includes(came)) throw new Error(`Expected ${String(status)}, got ${came}`)
}

/**
 * Sends one request, and resets the connection once it is in flight. It does not read the app's state, because a read
 * changes the way the request is counted.
 */
const leaves = (bytes: string): Row['drive'] => async (app, client) => {
  const { send, socket } = await client()
  const came = once(app.server, 'request')
  send(bytes)
  await came
  socket.resetAndDestroy()
}

/** A detached handler is still counted. These handlers end when they see that the client has left. */
async function untilGone (raw: IncomingMessage): Promise<void> {
  const { stream } = raw as IncomingMessage & { stream?: http2.ServerHttp2Stream }
  await new Promise<void>(resolve => { (stream ?? raw.socket).once('close', () => resolve()) })
}

const ordinary = (app: FastifyInstance): void => { app.get('/', async () => 'hello') }
const hanging = (app: FastifyInstance): void => {
  app.all('/', async (request, reply) => {
    await untilGone(request.raw)
    return reply.send('too late')
  })
}

const rows: Row[] = [
  { name: 'a response of 200', routes: ordinary, drive: asks(get('/'), 200), counts: { completed: 1 } },
  { name: 'a HEAD', routes: ordinary, drive: asks(get('/', {}, 'HEAD'), 200, true), counts: { completed: 1 } },
  { name: 'an OPTIONS without a route', routes: ordinary, drive: asks(get('/', {}, 'OPTIONS'), 404), counts: { completed: 1 } },
  { name: 'a POST on a GET route', routes: ordinary, drive: asks(post('/', 'x'), 404), counts: { completed: 1 } },
  { name: 'a method that Fastify does not route', routes: ordinary, drive: asks(get('/', {}, 'PROPFIND'), 404), counts: { completed: 1 } },
  { name: 'a handler that throws', routes: app => { app.get('/', async () => { throw new Error('no') }) }, drive: asks(get('/'), 500), counts: { completed: 1 } },
  {
    name: 'a web stream',
    routes: app => {
      app.get('/', (_request, reply) => reply.send(new ReadableStream({
        start (controller) {
          controller.enqueue(Buffer.from('hello'))
          controller.close()
        }
      })))
    },
    drive: asks(get('/'), 200),
    counts: { completed: 1 }
  },
  {
    name: 'a response with trailers',
    routes: app => { app.get('/', (_request, reply) => reply.trailer('etag', async () => 'x').send('hello')) },
    drive: asks(get('/'), 200),
    counts: { completed: 1 }
  },
  {
    name: 'a body that waits for 100 Continue',
    routes: app => { app.post('/', async () => 'hello') },
    drive: async (_app, client) => {
      const { send, answer } = await client()
      send(get('/', { Expect: '100-continue', 'Content-Type': 'text/plain', 'Content-Length': '1' }, 'POST'))
      if ((await answer()).status !== 100) throw new Error('Expected a 100')
      send('x')
      if ((await answer()).status !== 200) throw new Error('Expected a 200')
    },
    counts: { completed: 1 }
  },
  { name: 'a URL that cannot be decoded', routes: ordinary, drive: asks(get('/%zz'), 400), counts: { completed: 1 } },
  // Fastify 5.0 answers 404.
  { name: 'a parameter that is too long', routes: app => { app.get('/:name', async () => 'hello') }, drive: asks(get(`/${'x'.repeat(200)}`), [404, 414]), counts: { completed: 1 } },
  {
    name: 'a response by frameworkErrors',
    fastify: { frameworkErrors: (_error: Error, _request: unknown, reply: { code(code: number): { send(body: string): void } }) => reply.code(418).send('bad') },
    routes: ordinary,
    drive: asks(get('/%zz'), 418),
    counts: { completed: 1 }
  },
  { name: 'a request without Host, which Node answers with 400', routes: ordinary, drive: asks('GET / HTTP/1.1\r\n\r\n', 400), counts: {} },
  { name: 'an expectation that Node does not meet', routes: ordinary, drive: asks(get('/', { Expect: 'the unexpected' }), 417), counts: {} },
  {
    name: 'a request beyond maxRequestsPerSocket, which Node rejects',
    fastify: { maxRequestsPerSocket: 1 },
    routes: ordinary,
    drive: async (_app, client) => {
      const { send, answer } = await client()
      send(get('/') + get('/'))
      await answer()
      if ((await answer()).status !== 503) throw new Error('Expected a 503')
    },
    counts: { completed: 1 }
  },
  {
    name: 'an expectation that Node does not meet, after a complete response',
    routes: ordinary,
    drive: async (_app, client) => {
      const { send, answer } = await client()
      send(get('/'))
      await answer()
      send(get('/', { Expect: 'the unexpected' }))
      if ((await answer()).status !== 417) throw new Error('Expected a 417')
      send(get('/'))
      await answer()
    },
    counts: { completed: 2 }
  },
  {
    name: 'a request that the app passes to Fastify by itself',
    routes: app => {
      ordinary(app)
      app.server.on('checkContinue', (req, res) => app.routing(req, res))
    },
    drive: async (_app, client) => {
      const { send, answer } = await client()
      send(get('/', { Expect: '100-continue' }))
      await answer()
    },
    counts: { completed: 1 }
  },
  {
    name: 'a request whose signal is read by a hook before ours',
    before: app => {
      app.addHook('onRequest', async request => {
        if (request.shutdownSignal.aborted) throw new Error('It has just begun')
      })
    },
    routes: ordinary,
    drive: asks(get('/'), 200),
    counts: { completed: 1 }
  },
  {
    name: 'an inject whose signal is read by a hook before ours',
    before: app => { app.addHook('onRequest', async request => { request.shutdownSignal.throwIfAborted() }) },
    routes: app => {
      app.get('/', async request => {
        request.shutdownSignal.throwIfAborted()
        return app.shutdownState.activeRequests
      })
    },
    drive: async app => {
      const { statusCode, body } = await app.inject('/')
      if (statusCode !== 200 || body !== '1') throw new Error(`${statusCode} ${body}`)
    },
    counts: { completed: 1 }
  },
  { name: 'bytes that are not HTTP', routes: ordinary, drive: asks('hello\r\n\r\n', 400), counts: {} },
  { name: 'a method that Node does not know', routes: ordinary, drive: asks(get('/', {}, 'BREW'), 400), counts: {} },
  {
    name: 'a hook before ours that replies',
    before: app => { app.addHook('onRequest', async (_request, reply) => reply.code(204).send()) },
    routes: ordinary,
    drive: asks(get('/'), 204),
    counts: { completed: 1 }
  },
  {
    name: 'a hook before ours that throws',
    before: app => { app.addHook('onRequest', async () => { throw new Error('no') }) },
    routes: ordinary,
    drive: asks(get('/'), 500),
    counts: { completed: 1 }
  },
  {
    name: 'a hook before ours that hijacks and ends',
    before: app => {
      app.addHook('onRequest', async (_request, reply) => {
        reply.hijack()
        reply.raw.writeHead(202).end('mine')
      })
    },
    routes: ordinary,
    drive: asks(get('/'), 202),
    counts: { completed: 1 }
  },
  {
    name: 'a hook before ours that never continues, and a client that leaves',
    before: app => { app.addHook('onRequest', () => {}) },
    routes: ordinary,
    drive: leaves(get('/')),
    counts: { aborted: 1 }
  },
  {
    name: 'a hook before ours that continues after the client has left',
    before: app => { app.addHook('onRequest', async request => untilGone(request.raw)) },
    routes: ordinary,
    drive: leaves(get('/')),
    counts: { aborted: 1 }
  },
  {
    name: 'a hijacked response',
    routes: app => {
      app.get('/', (_request, reply) => {
        reply.hijack()
        reply.raw.writeHead(202).end('mine')
      })
    },
    drive: asks(get('/'), 202),
    counts: { completed: 1 }
  },
  { name: 'a response that ends without Fastify', routes: app => { app.get('/', (_request, reply) => { reply.raw.writeHead(202).end('mine') }) }, drive: asks(get('/'), 202), counts: { completed: 1 } },
  {
    name: 'a hijacked response that is destroyed',
    routes: app => {
      app.get('/', (_request, reply) => {
        reply.hijack()
        reply.raw.destroy()
      })
    },
    drive: async (_app, client) => {
      const { send, over } = await client()
      send(get('/'))
      await over
    },
    counts: { aborted: 1 }
  },
  { name: 'a hijacked response that never ends, and a client that leaves', routes: app => { app.get('/', (_request, reply) => { reply.hijack() }) }, drive: leaves(get('/')), counts: { aborted: 1 } },
  {
    name: 'a stream that fails after the headers',
    routes: app => {
      app.get('/', (_request, reply) => {
        const source = new Readable({ read () {} })
        source.push('hello')
        reply.raw.once('pipe', () => { setImmediate(() => source.destroy(new Error('no'))) })
        return reply.send(source)
      })
    },
    drive: async (_app, client) => {
      const { send, over } = await client()
      send(get('/'))
      await over
    },
    counts: { aborted: 1 }
  },
  {
    name: 'a stream that fails before its first byte',
    routes: app => { app.get('/', (_request, reply) => reply.send(new Readable({ read () { this.destroy(new Error('no')) } }))) },
    drive: asks(get('/'), 500),
    counts: { completed: 1 }
  },
  { name: 'a client that leaves before its body is complete', routes: hanging, drive: leaves(post('/', 'x', { 'Content-Length': '100' })), counts: { aborted: 1 } },
  { name: 'a client that leaves while the handler works', routes: hanging, drive: leaves(get('/')), counts: { aborted: 1 } },
  { name: 'a client that leaves a handler that never replies', routes: app => { app.get('/', () => {}) }, drive: leaves(get('/')), counts: { aborted: 1 } },
  {
    name: 'a client that leaves a stream',
    routes: app => {
      app.get('/', (_request, reply) => {
        const source = new Readable({ read () {} })
        source.push('hello')
        return reply.send(source)
      })
    },
    drive: async (_app, client) => {
      const { send, until, socket } = await client()
      send(get('/'))
      await until('hello')
      socket.resetAndDestroy()
    },
    counts: { aborted: 1 }
  },
  {
    name: 'a client that only ends its side',
    routes: hanging,
    drive: async (app, client) => {
      const { send, socket, over } = await client()
      send(get('/'))
      await eventually(() => inFlight(app) === 1, () => app.shutdownState)
      socket.end()
      await over
    },
    counts: { aborted: 1 }
  },
  {
    name: "a body that does not arrive within the server's requestTimeout",
    // Node uses the longer of the two timeouts for the body.
    fastify: { requestTimeout: 200, http: { connectionsCheckingInterval: 50, headersTimeout: 100 } },
    routes: hanging,
    drive: async (_app, client) => {
      const { send, over } = await client()
      send(post('/', 'x', { 'Content-Length': '100' }))
      await over
    },
    counts: { aborted: 1 }
  },
  {
    name: "a handler that takes longer than the server's connectionTimeout",
    fastify: { connectionTimeout: 100 },
    routes: hanging,
    drive: async (_app, client) => {
      const { send, over } = await client()
      send(get('/'))
      await over
    },
    counts: { aborted: 1 }
  },
  {
    name: 'a body with a bad chunk',
    routes: hanging,
    drive: async (_app, client) => {
      const { send, over } = await client()
      send(`${get('/', { 'Content-Type': 'text/plain', 'Transfer-Encoding': 'chunked' }, 'POST')}zz\r\n`)
      await over
    },
    counts: { aborted: 1 }
  },
  { name: 'inject', routes: ordinary, drive: app => app.inject('/'), counts: { completed: 1 } },
  { name: 'inject of an unknown route', routes: ordinary, drive: app => app.inject('/nowhere'), counts: { completed: 1 } },
  {
    name: 'inject that is aborted by its signal',
    routes: app => { app.get('/', async request => { await new Promise<void>(resolve => { request.raw.once('close', () => resolve()) }) }) },
    drive: async app => {
      const abort = new AbortController()
      const answer = app.inject({ url: '/', signal: abort.signal }).then(() => 'answered', () => 'aborted')
      await eventually(() => inFlight(app) === 1, () => app.shutdownState)
      abort.abort()
      if (await answer !== 'aborted') throw new Error('Expected inject to reject')
    },
    counts: { aborted: 1 }
  },
  {
    name: 'two pipelined requests',
    routes: ordinary,
    drive: async (_app, client) => {
      const { send, answer } = await client()
      send(get('/') + get('/nowhere'))
      if ((await answer()).status !== 200 || (await answer()).status !== 404) throw new Error('Expected a 200 and a 404')
    },
    counts: { completed: 2 }
  },
  {
    name: 'two pipelined requests, and a client that leaves while the first is answered',
    routes: hanging,
    drive: async (app, client) => {
      const { send, socket } = await client()
      send(get('/') + get('/'))
      await eventually(() => inFlight(app) === 2, () => app.shutdownState)
      socket.resetAndDestroy()
    },
    counts: { aborted: 2 }
  },
  {
    // A request whose body has been read closes long before its response, and emits nothing when its client leaves.
    name: 'three pipelined requests with bodies, and a client that leaves while the first is answered',
    routes: hanging,
    drive: async (app, client) => {
      const bodies = createDeferred<void>()
      let count = 0
      app.server.on('request', req => req.once('close', () => { if (++count === 3) bodies.resolve() }))
      const { send, socket } = await client()
      send(post('/', 'a') + post('/', 'b') + post('/', 'c'))
      await bodies.promise
      if (inFlight(app) !== 3) throw new Error('Expected three in flight')
      socket.resetAndDestroy()
    },
    counts: { aborted: 3 }
  },
  {
    // Node warns of a leak if one socket has more than ten listeners for one event.
    name: 'twenty pipelined requests, without a listener for each on their socket',
    routes: app => { app.get('/', () => {}) },
    drive: async (app, client) => {
      const accepted = new Promise<Socket>(resolve => { app.server.once('connection', resolve) })
      const { send, socket } = await client()
      send(get('/').repeat(20))
      await eventually(() => inFlight(app) === 20, () => app.shutdownState)
      const listeners = (await accepted).listenerCount('close')
      if (listeners > 8) throw new Error(`Expected a handful of listeners, got ${listeners}`)
      socket.resetAndDestroy()
    },
    counts: { aborted: 20 }
  },
  {
    name: 'an upgrade without an upgrade listener',
    routes: ordinary,
    drive: asks(get('/', { Connection: 'Upgrade', Upgrade: 'something' }), 200),
    counts: { completed: 1 }
  },
  {
    name: 'an upgrade with a listener of the app',
    routes: app => { app.server.on('upgrade', (_req, socket) => { socket.end('HTTP/1.1 101 Switching Protocols\r\n\r\n') }) },
    drive: asks(get('/', { Connection: 'Upgrade', Upgrade: 'something' }), 101),
    counts: {}
  }
]

/** HTTP/2 without TLS. Its requests are counted like any other. */
const plainHttp2: Row[] = [
  { name: 'a response over HTTP/2', routes: ordinary, drive: async app => { await overHttp2(app, stream => read(stream)) }, counts: { completed: 1 } },
  { name: 'a 404 over HTTP/2', drive: async app => { await overHttp2(app, stream => read(stream)) }, counts: { completed: 1 } },
  {
    name: 'a stream that its client resets while the handler works',
    routes: hanging,
    drive: async app => {
      await overHttp2(app, async stream => {
        await eventually(() => inFlight(app) === 1, () => app.shutdownState)
        stream.close(http2.constants.NGHTTP2_CANCEL)
      })
    },
    counts: { aborted: 1 }
  },
  {
    name: 'a session that its client destroys while the handler works',
    routes: hanging,
    drive: async app => {
      await overHttp2(app, async (_stream, session) => {
        await eventually(() => inFlight(app) === 1, () => app.shutdownState)
        session.destroy()
      })
    },
    counts: { aborted: 1 }
  }
]
const all = [...rows, ...plainHttp2.map(row => ({ ...row, fastify: { http2: true } }))]

if (canTimeHandlers()) {
  all.push({
    name: 'a handler that takes longer than its handlerTimeout',
    fastify: { handlerTimeout: 50 },
    routes: app => { app.get('/', async request => new Promise(resolve => { request.signal.addEventListener('abort', resolve) })) },
    drive: asks(get('/'), 503),
    counts: { completed: 1 }
  })
}

// A request whose state is not read while it is in flight uses the fast path; a read moves it into the table.
for (const [track, watched] of [['count', false], ['count', true], ['detail', true]] as const) {
  for (const row of all) {
    t.test(`${row.name} is counted once with track '${track}', ${watched ? 'also if the state is read all the time' : 'if the state is never read'}`, async t => {
      const wrong: unknown[] = []
      const check = (app: FastifyInstance): void => {
        const { stats: { received, completed, rejected, aborted, cut }, activeRequests, activeStreams } = app.shutdownState
        const numbers = [received, completed, rejected, aborted, cut, activeRequests, activeStreams]
        if (received !== completed + rejected + aborted + cut + activeRequests + activeStreams || Math.min(...numbers) < 0) wrong.push(numbers)
      }
      const { app, report } = await serve(t, {
        ...row,
        options: { track, timeouts: { requests: 500, total: 2_000, resources: 500 } },
        routes: async app => {
          if (watched) {
            app.addHook('onRequest', async () => check(app))
            app.addHook('onResponse', async () => check(app))
            app.addHook('onRequestAbort', async _request => check(app))
          }
          await row.routes?.(app)
        }
      })
      await row.drive(app, () => connect(app))
      const { completed = 0, rejected = 0, aborted = 0, cut = 0 } = row.counts
      const received = completed + rejected + aborted + cut
      await eventually(() => app.shutdownState.stats.received === received && inFlight(app) === 0, () => app.shutdownState)
      check(app)
      t.match(app.shutdownState.stats, { received, completed, rejected, aborted, cut })
      t.strictSame(app.shutdownState.requests(), [])
      t.strictSame(wrong, [], 'the sum was right at every read')

      await app.close()
      t.match(await report, { outcome: 'clean', requests: { cut: [] } }, 'nothing delayed the close')
      t.match(app.shutdownState.stats, { received, completed, rejected, aborted, cut })
    })
  }
}

t.test('no memory of a request is kept after its end', async t => {
  const { app } = await serve(t, { routes: ordinary })
  const { send, answer } = await connect(app)
  for (let count = 0; count < 200; count++) {
    send(get('/'))
    await answer()
  }
  await eventually(() => inFlight(app) === 0, () => app.shutdownState)
  t.match(app.shutdownState.stats, { received: 200, completed: 200 })
  t.strictSame(app.shutdownState.requests(), [])
})

async function overHttp2 (app: FastifyInstance, use: (stream: http2.ClientHttp2Stream, session: http2.ClientHttp2Session) => Promise<unknown>): Promise<void> {
  const { session, request } = openSession(app)
  try {
    await use(request({ ':path': '/' }), session)
  } finally {
    session.close()
  }
}

async function read (stream: http2.ClientHttp2Stream): Promise<void> {
  stream.resume()
  await once(stream, 'close')
}

/** Not every Fastify 5 accepts the option; older versions ignore it. */
function canTimeHandlers (): boolean {
  return 'handlerTimeout' in Fastify({ handlerTimeout: 1 } as object).initialConfig
}
