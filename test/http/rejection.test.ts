/** Requests that are rejected while draining: on every kind of route, with which Retry-After, and with which body. */
import net from 'node:net'
import { once } from 'node:events'
import { Readable } from 'node:stream'
import { runInNewContext } from 'node:vm'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import type { ShutdownOptions } from '../../types/index'
import { createDeferred } from '../../lib/util/deferred'
import { connect, eventually, fetchOnce, get, post, type Answer } from '../helpers/client'
import { Fastify } from '../helpers/fastify'
import { entered, rejected, serve, serveHeld } from '../helpers/serve'

t.test('every kind of route is rejected: registered before the plugin, or in an encapsulated context', async t => {
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
    t.match(await fetchOnce(app, get(path)), rejected, path)
  }
  t.match(await fetchOnce(app, post('/later', 'x')), rejected, 'a POST')
  release()
  await closed
})

t.test('HEAD, a preflight request, and a route that would refuse the body are rejected as well', async t => {
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
  t.equal(head.rest, '', 'a response to HEAD has no body')
  for (const bytes of [
    get('/here', { Origin: 'http://elsewhere', 'Access-Control-Request-Method': 'GET' }, 'OPTIONS'),
    post('/strict', '{"a":"long"}', { 'Content-Type': 'application/json' }),
    post('/strict', 'no JSON', { 'Content-Type': 'application/json' })
  ]) t.match(await fetchOnce(app, bytes), rejected)
  release()
  await closed
  t.match(await report, { outcome: 'clean', requests: { rejected: 4 } })
})

t.test('hooks of the app that throw before the 503 do not remove its Retry-After', async t => {
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

t.test('an exempt route is served while draining, and its connection ends afterwards', async t => {
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

t.test('inject() gets the same 503', async t => {
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

t.test("Fastify's own 503 also carries Retry-After", async t => {
  for (const return503OnClosing of [true, false]) {
    await t.test(`with return503OnClosing: ${return503OnClosing}`, async t => {
      let answer: Answer | undefined
      const { app } = await serve(t, {
        fastify: { return503OnClosing },
        routes: app => {
          // A slow preClose hook: Fastify is closing, and the port refuses connections. An open socket may still be
          // handed over.
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

t.test('retryAfter is a number, a range that is used completely, or a function', async t => {
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
  t.strictSame([...await ask([3, 5], 200)].sort(), ['3', '4', '5'], 'the probability to miss one of three values in 200 draws is 1 in 10^35')
  t.strictSame(await ask(({ phase, activeRequests }) => phase === 'draining' ? 40 + activeRequests : 0, 1), new Set(['42']))
  t.strictSame(await ask(() => '10\r\nX: y' as unknown as number, 1), new Set(['10']), 'the default replaces an invalid result of the function')
  t.strictSame(await ask(() => { throw new Error('no') }, 1), new Set(['10']), 'the default also replaces the result of a function that throws')
})

t.test('the rejection option makes the body of the 503', async t => {
  const { app, release } = await serveHeld(t, { options: { errorResponseBuilder: (request, state) => ({ try: 'again', path: request.url, phase: state.phase }) } })
  const closed = app.close()
  await entered(app, 'draining')
  const answer = await fetchOnce(app, get('/some/where'))
  t.match(answer, { status: 503, headers: { 'retry-after': '10', connection: 'close' } })
  t.strictSame(JSON.parse(answer.body), { try: 'again', path: '/some/where', phase: 'draining' })
  release()
  await closed
})

t.test('the rejection option may be an async function', async t => {
  const { app, release } = await serveHeld(t, { options: { errorResponseBuilder: async () => ({ try: 'again' }) } })
  const closed = app.close()
  await entered(app, 'draining')
  t.match(await fetchOnce(app, get('/')), { status: 503, headers: { 'retry-after': '10' }, body: '{"try":"again"}' })
  release()
  await closed
})

t.test('a request is rejected with the default body if the rejection option throws or rejects', async t => {
  for (const rejection of [() => { throw new Error('no') }, async () => { throw new Error('no') }]) {
    const { app, release, report } = await serveHeld(t, { options: { errorResponseBuilder: rejection } })
    const closed = app.close()
    await entered(app, 'draining')
    t.match(await fetchOnce(app, get('/')), rejected)
    release()
    await closed
    t.match(await report, { outcome: 'failed', requests: { rejected: 1 } })
  }
})

t.test('whatever errorResponseBuilder returns, the status is 503 with Retry-After', async t => {
  const circular: { self?: object } = {}
  circular.self = circular
  const failing = (before: string[]): Readable => Readable.from((async function * () {
    yield * before
    throw Object.assign(new Error('no file'), { statusCode: 404 })
  })())
  const byDefault = /"code":"FST_ERR_SHUTDOWN_DRAINING"/
  const consumed = new Response('consumed')
  await consumed.text()
  const hostile = new Proxy({}, { get () { throw new Error('hostile') }, getPrototypeOf () { throw new Error('hostile') } })
  /** A function that makes the value, the expected body, and whether it is a failure. */
  const values: Record<string, [() => unknown, body: string | RegExp, fails?: boolean]> = {
    'an Error': [() => new Error('busy'), '{"statusCode":503,"error":"Service Unavailable","message":"busy"}'],
    'an Error with a status, a code and headers': [
      () => Object.assign(new TypeError('tea'), { statusCode: 418, status: 418, code: 'E_TEA', headers: { 'retry-after': '99' } }),
      '{"statusCode":503,"code":"E_TEA","error":"Service Unavailable","message":"tea"}'
    ],
    'an Error of another realm': [() => runInNewContext("Object.assign(new Error('far'), { statusCode: 404 })"), /"message":"far"/],
    'a Response': [() => new Response('busy', { status: 404, headers: { 'content-type': 'text/x-busy', 'retry-after': 'soon', connection: 'keep-alive' } }), 'busy'],
    'a Response without a body': [() => new Response(null, { status: 204 }), ''],
    'a Response that is consumed': [() => consumed, byDefault, true],
    'a Response.error()': [() => Response.error(), ''],
    'a stream': [() => Readable.from(['bu', Buffer.from('sy')]), 'busy'],
    'a web stream': [() => new Response('busy').body, 'busy'],
    'a stream that fails at once': [() => failing([]), byDefault, true],
    'a stream that fails later': [() => failing(['begin']), byDefault, true],
    'a stream that is destroyed': [() => new Readable({ read () {} }).destroy(), byDefault, true],
    'a stream of 2 MB': [() => Readable.from([Buffer.alloc(2_000_000)]), byDefault, true],
    'a stream that never ends': [() => new Readable({ read () {} }), byDefault],
    'a stream of objects': [() => Readable.from([{ a: 1 }]), byDefault, true],
    undefined: [() => undefined, byDefault],
    null: [() => null, 'null'],
    'an empty text': [() => '', ''],
    'a Buffer': [() => Buffer.from('busy'), 'busy'],
    'a number': [() => 7, '7'],
    'a function': [() => () => 'busy', ''],
    'a symbol': [() => Symbol('busy'), ''],
    'a BigInt': [() => 7n, /./],
    'a circular object': [() => circular, /./],
    'an object with a status': [() => ({ statusCode: 404, status: 404 }), '{"statusCode":404,"status":404}'],
    'a hostile Proxy': [() => hostile, byDefault, true]
  }
  for (const [name, [value, body, fails = false]] of Object.entries(values)) {
    for (const [kind, errorResponseBuilder] of Object.entries({ '': value, 'a Promise of ': async () => value() })) {
      const { app, release, report } = await serveHeld(t, { options: { errorResponseBuilder } })
      const closed = app.close()
      await entered(app, 'draining')
      t.match(await fetchOnce(app, get('/')), { status: 503, headers: { 'retry-after': '10', connection: 'close' }, body }, kind + name)
      release()
      await closed
      t.match(await report, { outcome: fails ? 'failed' : 'clean', requests: { rejected: 1 } }, kind + name)
    }
  }
})

t.test("the app's own error handler makes the body of the 503, and can read the state", async t => {
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

/** A logger that keeps the lines of level warn and above. */
function loud (): { readonly lines: string[], readonly logger: object } {
  const lines: string[] = []
  return { lines, logger: { level: 'trace', stream: { write (line: string) { if (JSON.parse(line).level >= 40) lines.push(line) } } } }
}

t.test('a shutdown that rejects requests writes nothing at level warn or above, and the hooks of the app still run', async t => {
  const { lines, logger } = loud()
  const hooks: string[] = []
  const { app, release, report } = await serveHeld(t, {
    fastify: { logger },
    options: { probes: true },
    routes: async app => {
      app.addHook('onSend', async (_request, reply, payload) => {
        hooks.push(typeof payload)
        reply.header('x-send', 'yes')
      })
      app.addHook('onResponse', async () => { hooks.push('onResponse') })
      app.addHook('onError', async () => { hooks.push('onError') })
      app.get('/here', async () => 'here')
      await app.register(async child => { child.post('/child', async () => 'child') })
    }
  })
  const closed = app.close()
  await entered(app, 'draining')
  for (const bytes of [get('/here'), get('/nowhere'), post('/child', 'x'), get('/here', {}, 'OPTIONS')]) {
    t.match(await fetchOnce(app, bytes), { ...rejected, headers: { ...rejected.headers, 'x-send': 'yes', 'content-type': 'application/json; charset=utf-8' } })
  }
  const head = await connect(app)
  head.send(get('/here', {}, 'HEAD'))
  t.match(await head.answer(true), { status: 503, headers: { 'retry-after': '10' } })
  t.equal((await fetchOnce(app, get('/health/ready'))).status, 503)
  t.match(await app.inject('/here'), { statusCode: 503, headers: { 'x-send': 'yes' } })
  t.equal(hooks.filter(name => name === 'string').length, 7, 'an onSend hook gets the body as text')
  t.notOk(hooks.includes('onError'))
  release()
  await closed
  t.match(await report, { outcome: 'clean', requests: { rejected: 6 } })
  t.strictSame(lines, [])
})

t.test('serializers and response schemas of the app do not change the default body', async t => {
  const { app, release } = await serveHeld(t, {
    before: app => { app.addHook('onRequest', async (_request, reply) => { reply.serializer(() => 'of an earlier hook') }) },
    routes: app => {
      app.setReplySerializer(() => 'of the app')
      app.get('/', { schema: { response: { '5xx': { type: 'object', required: ['other'], properties: { other: { type: 'string' } } } } } }, async () => ({}))
    }
  })
  const closed = app.close()
  await entered(app, 'draining')
  const { body } = await fetchOnce(app, get('/'))
  t.strictSame(JSON.parse(body), { statusCode: 503, code: 'FST_ERR_SHUTDOWN_DRAINING', error: 'Service Unavailable', message: 'The server is shutting down, please try again' })
  release()
  await closed
})

t.test('the error goes to an error handler of the route or of any context around it, and to no other', async t => {
  const own = (name: string) => (error: Error & { statusCode?: number, code?: string }, _request: unknown, reply: { code (status: number): { send (body: object): unknown } }): unknown =>
    reply.code(error.statusCode ?? 500).send({ name, code: error.code })
  const { lines, logger } = loud()
  const { app, release } = await serveHeld(t, {
    fastify: { logger },
    routes: async app => {
      app.get('/default', async () => 'default')
      app.get('/route', { errorHandler: own('route') }, async () => 'route')
      await app.register(async child => {
        child.setErrorHandler(own('child'))
        child.get('/child', async () => 'child')
        await child.register(async grandchild => { grandchild.get('/grandchild', async () => 'grandchild') })
      })
    }
  })
  const closed = app.close()
  await entered(app, 'draining')
  const names = async (path: string): Promise<unknown> => {
    const { status, body } = await fetchOnce(app, get(path))
    return [status, JSON.parse(body).code, JSON.parse(body).name]
  }
  t.strictSame(await names('/route'), [503, 'FST_ERR_SHUTDOWN_DRAINING', 'route'])
  t.strictSame(await names('/child'), [503, 'FST_ERR_SHUTDOWN_DRAINING', 'child'])
  t.strictSame(await names('/grandchild'), [503, 'FST_ERR_SHUTDOWN_DRAINING', 'child'])
  t.strictSame(await names('/default'), [503, 'FST_ERR_SHUTDOWN_DRAINING', undefined])
  t.strictSame(await names('/nowhere'), [503, 'FST_ERR_SHUTDOWN_DRAINING', undefined])
  release()
  await closed
  t.strictSame(lines, [])
})

t.test('each 503 of an answer in flight has a Retry-After header: of a handler, of an error, and of writeHead', async t => {
  const gate = createDeferred<void>()
  const paths = ['/code', '/error', '/raw', '/array', '/own', '/text', '/inherited', '/fine']
  const { app, report } = await serve(t, {
    routes: app => {
      app.get('/code', async (_request, reply) => { await gate.promise; return reply.code(503).send('busy') })
      app.get('/error', async () => { await gate.promise; throw Object.assign(new Error('busy'), { statusCode: 503 }) })
      app.get('/raw', (_request, reply) => { void gate.promise.then(() => reply.raw.writeHead(503, { 'x-own': '1' }).end()) })
      app.get('/array', (_request, reply) => { void gate.promise.then(() => reply.raw.writeHead(503, ['X-Own', '1', 'Retry-After', '7']).end()) })
      app.get('/own', async (_request, reply) => { await gate.promise; return reply.code(503).header('Retry-After', 3).send('busy') })
      app.get('/text', (_request, reply) => { void gate.promise.then(() => reply.raw.writeHead('503' as unknown as number).end()) })
      app.get('/inherited', (_request, reply) => { void gate.promise.then(() => reply.raw.writeHead(503, Object.create({ 'Retry-After': 7 }) as {}).end()) })
      app.get('/fine', async () => { await gate.promise; return 'fine' })
    }
  })
  const clients = await Promise.all(paths.map(async path => {
    const client = await connect(app)
    client.send(get(path))
    return client
  }))
  await eventually(() => app.shutdownState.activeRequests === paths.length, () => app.shutdownState)
  const closed = app.close()
  await entered(app, 'draining')
  gate.resolve()
  const answers = await Promise.all(clients.map(client => client.answer()))
  t.strictSame(answers.map(({ status, headers }) => [status, headers['retry-after']]), [
    [503, '10'], [503, '10'], [503, '10'], [503, '7'], [503, '3'], [503, '10'], [503, '10'], [200, undefined]
  ])
  await closed
  t.match(await report, { outcome: 'clean', requests: { completed: paths.length } })
})

t.test('a 503 of a handler has a Retry-After header in lame-duck, too, and none before', async t => {
  const { app } = await serve(t, {
    options: { delay: 200 },
    routes: app => { app.get('/', async (_request, reply) => reply.code(503).send('busy')) }
  })
  t.notOk('retry-after' in (await fetchOnce(app, get('/'))).headers)
  const closing = app.shutdown.start()
  await entered(app, 'lame-duck')
  t.match(await fetchOnce(app, get('/')), { status: 503, headers: { 'retry-after': '10' }, body: 'busy' })
  await closing
})

const hasHandlerTimeout = 'handlerTimeout' in Fastify({ handlerTimeout: 1 } as object).initialConfig
t.test("Fastify's own 503 of a handlerTimeout has a Retry-After header", { skip: hasHandlerTimeout ? false : 'this Fastify has no handlerTimeout' }, async t => {
  for (const config of [{}, { shutdown: { exempt: true } }]) {
    const { app, release } = await serveHeld(t, {
      routes: app => { app.get('/', { handlerTimeout: 50, config } as object, async () => { await new Promise(resolve => { setTimeout(resolve, 200) }) }) }
    })
    const client = await connect(app)
    const begin = async (): Promise<void> => {
      client.send(get('/'))
      await eventually(() => app.shutdownState.activeRequests === 2, () => app.shutdownState)
    }
    if (config.shutdown === undefined) await begin()
    const closed = app.close()
    await entered(app, 'draining')
    if (config.shutdown !== undefined) await begin()
    t.match(await client.answer(), { status: 503, headers: { 'retry-after': '10' }, body: /FST_ERR_HANDLER_TIMEOUT/ })
    release()
    await closed
  }
})

t.test('code of the app that answers after its request was cut causes no uncaught error', async t => {
  const uncaught: unknown[] = []
  const keep = (error: unknown): void => { uncaught.push(error) }
  process.on('uncaughtException', keep)
  t.teardown(() => process.off('uncaughtException', keep))
  const over: string[] = []
  const later = (name: string, work: () => void): void => {
    setTimeout(() => {
      over.push(name)
      work()
    }, 300)
  }
  const { app, report } = await serve(t, {
    options: { timeouts: { requests: 100 } },
    routes: app => {
      app.get('/hook', { onSend: (_request, _reply, _payload, done) => { later('hook', done) } }, async () => 'hook')
      app.get('/handler', (_request, reply) => { later('handler', () => reply.header('x', '1').send('handler')) })
      app.get('/raw', (_request, reply) => { later('raw', () => reply.raw.setHeader('x', '1').writeHead(200).end('raw')) })
    }
  })
  const clients = await Promise.all(['/hook', '/handler', '/raw'].map(async path => {
    const client = await connect(app)
    client.send(get(path))
    return client
  }))
  await eventually(() => app.shutdownState.activeRequests === 3, () => app.shutdownState)
  const closed = app.close()
  for (const client of clients) t.match(await client.answer(), rejected)
  await closed
  t.match(await report, { outcome: 'forced', requests: { cut: { length: 3 } } })
  await eventually(() => over.length === 3, () => over)
  await new Promise(resolve => { setImmediate(resolve) })
  t.strictSame(uncaught, [])
})

t.test('an error handler that passes the error on writes nothing at level warn or above', async t => {
  const handlers: Record<string, (app: FastifyInstance) => void> = {
    'reply.send(error)': app => { app.setErrorHandler((error, _request, reply) => reply.send(error)) },
    'an async handler that throws': app => { app.setErrorHandler(async error => await Promise.reject(error)) }
  }
  for (const [name, add] of Object.entries(handlers)) {
    const { lines, logger } = loud()
    const { app, release, report } = await serveHeld(t, { fastify: { logger }, routes: app => { add(app) } })
    const closed = app.close()
    await entered(app, 'draining')
    t.match(await fetchOnce(app, get('/nowhere')), { status: 503, headers: { 'retry-after': '10' } }, name)
    release()
    await closed
    t.match(await report, { outcome: 'clean', requests: { rejected: 1 } }, name)
    t.strictSame(lines, [], name)
  }
})
