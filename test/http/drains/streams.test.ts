/** Responses that stream: every way to make them, and how each of them ends. */
import { once } from 'node:events'
import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import type gracefulShutdown from '../../../lib/index'
import { sse } from '../../../lib/index'
import { createDeferred } from '../../../lib/util/deferred'
import { connect, eventually, get, type Ended } from '../../helpers/client'
import { transports } from '../../helpers/transports'

const marker = 'event: end\nretry: 1000\ndata: {"type":"end","reason":"shutdown"}\n\n'
const http1 = transports[0]!

async function open (t: Test, routes: (app: FastifyInstance) => void, options: gracefulShutdown.Options = {}): Promise<{ readonly app: FastifyInstance, readonly rest: Promise<Ended> }> {
  const { app, port } = await http1.start(options, routes)
  const client = http1.connect(port)
  t.teardown(() => client.close())
  const { rest } = await client.begin('/')
  await eventually(() => app.shutdownState.activeStreams === 1, () => app.shutdownState)
  t.equal(app.shutdownState.activeRequests, 0, 'a stream is no longer counted as a request')
  return { app, rest }
}

/** Sources that yield one value and never another, and whether they have been told to stop. */
const silent: Record<string, () => { readonly source: Parameters<FastifyInstance['shutdown']['stream']>[0], readonly left: () => boolean }> = {
  'a Node stream' () {
    const source = new Readable({ read () {} })
    source.push('begun')
    return { source, left: () => source.destroyed }
  },
  'a web ReadableStream' () {
    let cancelled = false
    const source = new ReadableStream<Uint8Array>({ start: controller => controller.enqueue(Buffer.from('begun')), cancel () { cancelled = true } })
    return { source: source as unknown as AsyncIterable<Uint8Array>, left: () => cancelled }
  },
  'an async iterator' () {
    let left = false
    const chunks = ['begun']
    const source: AsyncIterable<string> = {
      [Symbol.asyncIterator]: () => ({
        next: async () => chunks.length > 0 ? { done: false, value: chunks.shift()! } : await new Promise(() => {}),
        async return () {
          left = true
          return { done: true, value: undefined }
        }
      })
    }
    return { source, left: () => left }
  }
}

for (const [name, make] of Object.entries(silent)) {
  void t.test(`shutdown.stream() of a silent source (${name}) ends with its end marker, and closes the source`, async t => {
    const { source, left } = make()
    const { app, rest } = await open(t, app => { app.get('/', (_request, reply) => reply.send(app.shutdown.stream(source, { end: () => Buffer.from('the end') }))) })
    const report = await app.shutdown.start()
    t.match(await rest, { body: 'begunthe end', whole: true })
    t.same(report.streams, { ended: 1, cut: 0 })
    t.equal(report.outcome, 'clean')
    t.ok(report.durationMs < 5_000, `took ${report.durationMs} ms`)
    await eventually(left, () => 'not left')
  })

  void t.test(`a silent source (${name}) that is sent without shutdown.stream() is cut at timeouts.streams`, async t => {
    const { app, rest } = await open(t, app => {
      app.get('/', (_request, reply) => {
        const { source } = make()
        return reply.send(name === 'an async iterator' ? Readable.from(source as AsyncIterable<string>) : source)
      })
    }, { timeouts: { streams: 150 }, track: 'detail' })
    const report = await app.shutdown.start()
    t.match(await rest, { body: 'begun', whole: false })
    t.same(report.streams, { ended: 0, cut: 1 })
    t.equal(report.outcome, 'forced')
    t.ok(report.durationMs >= 149 && report.durationMs < 5_000, `took ${report.durationMs} ms`)
  })
}

void t.test('shutdown.stream()', async t => {
  await t.test('passes on the values of its source, its end, and its error', async t => {
    const { app, port } = await http1.start({}, app => {
      app.get('/', (_request, reply) => reply.send(app.shutdown.stream(['a', Buffer.from('b')], { end: 'never said' })))
      app.get('/error', (_request, reply) => reply.send(app.shutdown.stream((async function * () {
        yield 'a'
        throw new Error('no more')
      })())))
      app.get('/none', (_request, reply) => reply.send(app.shutdown.stream(42 as never)))
    })
    const client = http1.connect(port)
    t.match(await client.get('/'), { body: 'ab', whole: true })
    t.match(await client.get('/error'), { whole: false })
    t.match(await client.get('/none'), { status: 500, body: /FST_ERR_SHUTDOWN_OPTION/ })
    client.close()
    t.equal((await app.shutdown.start()).outcome, 'clean')
  })

  await t.test('objects for a response are an error of that stream alone', async t => {
    for (const transport of [http1, transports[2]!]) {
      const { app, port } = await transport.start({}, app => {
        app.get('/', (_request, reply) => reply.send(app.shutdown.stream([{ event: 'no' }])))
        app.get('/later', (_request, reply) => reply.send(app.shutdown.stream(['begun', { event: 'no' }])))
        app.get('/marker', (_request, reply) => reply.send(app.shutdown.stream(silent['a Node stream']!().source, { end: { event: 'no' } })))
      })
      const client = transport.connect(port)
      t.match(await client.get('/'), { status: 500, body: /FST_ERR_SHUTDOWN_OPTION/ }, transport.name)
      // Over HTTP/2, Fastify ends the stream of a failed source without an error code.
      t.match(await client.get('/later'), { body: 'begun', whole: transport.http2 })
      const { rest } = await client.begin('/marker')
      const report = await app.shutdown.start()
      t.match(await rest, { body: 'begun', whole: transport.http2 })
      t.ok(report.durationMs < 5_000, `took ${report.durationMs} ms`)
      client.close()
    }
  })

  await t.test('an end marker that throws is an error of that stream alone', async t => {
    const { app, rest } = await open(t, app => {
      app.get('/', (_request, reply) => reply.send(app.shutdown.stream(silent['a Node stream']!().source, { end () { throw new Error('no marker') } })))
    })
    const report = await app.shutdown.start()
    t.match(await rest, { body: 'begun', whole: false })
    t.ok(report.durationMs < 5_000, 'the error comes before timeouts.streams')
  })

  await t.test('a stream that is opened while draining sends its end marker only', async t => {
    const gate = createDeferred<void>()
    const { app, port } = await http1.start({}, app => {
      app.get('/', async (_request, reply) => {
        await gate.promise
        return reply.send(app.shutdown.stream(silent['a Node stream']!().source, { end: 'the end' }))
      })
    })
    const client = await connect(port)
    client.send(get('/'))
    await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
    const closing = app.shutdown.start()
    await eventually(() => app.shutdownState.phase === 'draining', () => app.shutdownState)
    gate.resolve()
    t.equal((await client.answer()).body, 'the end')
    t.equal((await closing).outcome, 'clean')
  })

  await t.test('twenty streams leak no listeners', async t => {
    const warnings: Error[] = []
    const warned = (warning: Error): void => { warnings.push(warning) }
    process.on('warning', warned)
    t.teardown(() => process.removeListener('warning', warned))
    const { app } = await http1.start()
    const streams = Array.from({ length: 20 }, () => app.shutdown.stream(silent['a Node stream']!().source))
    const ended = streams.map(stream => once(stream.resume(), 'end'))
    const report = await app.shutdown.start()
    await Promise.all(ended)
    t.equal(report.outcome, 'clean')
    t.same(warnings, [])
  })
})

void t.test('a stream that begins after timeouts.streams has the timeout of its request', async t => {
  const gate = createDeferred<void>()
  const { app, port } = await http1.start({ timeouts: { streams: 100, requests: 500 } }, app => {
    app.get('/', async (_request, reply) => {
      await gate.promise
      return reply.send(silent['a Node stream']!().source)
    })
  })
  const client = await connect(port)
  client.send(get('/'))
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const closing = app.shutdown.start()
  // The time is the thing under test: the stream begins after timeouts.streams and before timeouts.requests.
  const opening = setTimeout(() => gate.resolve(), 250)
  await client.until('begun')
  t.equal(app.shutdownState.activeStreams, 1)
  const report = await closing
  clearTimeout(opening)
  t.same(report.streams, { ended: 0, cut: 1 })
  t.equal(report.outcome, 'forced')
  t.ok(report.durationMs >= 499 && report.durationMs < 5_000, `took ${report.durationMs} ms`)
  await client.over
})

void t.test('the report separates streams that ended from streams that were cut, also if a request became a stream', async t => {
  const gate = createDeferred<void>()
  const { app, port } = await http1.start({ timeouts: { streams: 150, requests: 500 } }, app => {
    app.get('/', (_request, reply) => reply.send(app.shutdown.stream(silent['a Node stream']!().source, { end: 'the end' })))
    app.get('/later', async (_request, reply) => {
      await gate.promise
      return reply.send(silent['a Node stream']!().source)
    })
  })
  const [stream, request] = [await connect(port), await connect(port)]
  stream.send(get('/'))
  await stream.until('begun')
  request.send(get('/later'))
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const closing = app.shutdown.start()
  t.match(await stream.answer(), { body: 'begunthe end' })
  gate.resolve()
  await request.until('begun')
  const report = await closing
  t.same(report.streams, { ended: 1, cut: 1 })
  t.match(report.requests, { completed: 1, cut: [] })
  await request.over
})

void t.test('a stream without a first byte is cut as a request, with a 503 that has none of its headers', async t => {
  for (const transport of [http1, transports[2]!]) {
    const source = new Readable({ read () {} })
    const { app, port } = await transport.start({ timeouts: { requests: 150 } }, app => {
      app.get('/', (_request, reply) => reply
        .headers({ 'content-encoding': 'gzip', 'cache-control': 'public, max-age=60', 'set-cookie': 'a=b', etag: '"1"', 'content-type': 'text/event-stream' })
        .send(source))
    })
    const client = transport.connect(port)
    t.teardown(() => client.close())
    const cut = client.get('/')
    await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
    const [{ status, headers, body }, report] = await Promise.all([cut, app.shutdown.start()])
    t.match({ status, retry: headers['retry-after'], type: headers['content-type'] }, { status: 503, retry: '10', type: /json/ }, transport.name)
    t.equal(JSON.parse(body).code, 'FST_ERR_SHUTDOWN_DRAINING')
    for (const name of ['content-encoding', 'cache-control', 'set-cookie', 'etag']) t.notOk(name in headers, name)
    if (!transport.http2) t.equal(headers['connection'], 'close')
    t.match(report.requests.cut, [{ route: '/' }])
    t.ok(source.destroyed)
  }
})

void t.test('reply.hijack() with raw writes', async t => {
  const byHand = (listens: boolean) => (app: FastifyInstance): void => {
    app.get('/', (_request: FastifyRequest, reply: FastifyReply) => {
      reply.hijack()
      reply.raw.writeHead(200, { 'content-type': 'text/event-stream' })
      reply.raw.write('data: begun\n\n')
      if (listens) app.shutdown.on('draining', () => reply.raw.end(sse()))
    })
  }

  await t.test('a hijacked stream ends with its marker if its handler listens to the signal', async t => {
    const { app, rest } = await open(t, byHand(true))
    const report = await app.shutdown.start()
    t.match(await rest, { body: `data: begun\n\n${marker}`, whole: true })
    t.same(report.streams, { ended: 1, cut: 0 })
    t.equal(report.outcome, 'clean')
  })

  await t.test('a hijacked stream is cut at timeouts.streams if its handler ignores the signal', async t => {
    const { app, rest } = await open(t, byHand(false), { timeouts: { streams: 150 } })
    const report = await app.shutdown.start()
    t.match(await rest, { body: 'data: begun\n\n', whole: false })
    t.same(report.streams, { ended: 0, cut: 1 })
  })

  await t.test('a hijacked stream is over when its client leaves, and delays nothing', async t => {
    const { app, port } = await http1.start({}, byHand(false))
    const client = http1.connect(port)
    const { abort } = await client.begin('/')
    abort()
    await eventually(() => app.shutdownState.activeStreams === 0, () => app.shutdownState)
    t.equal(app.shutdownState.stats.aborted, 1)
    client.close()
    const report = await app.shutdown.start()
    t.ok(report.durationMs < 5_000, `took ${report.durationMs} ms`)
  })
})

void t.test('sse() builds the end marker of server-sent events', async t => {
  t.equal(sse(), marker)
  t.equal(sse({ event: 'bye', data: { a: 'x\ny' }, retry: 0 }), 'event: bye\nretry: 0\ndata: {"a":"x\\ny"}\n\n', 'a line break in a value does not reach the client')
  for (const event of ['a\nb', 'a\rdata: b', '\0']) t.throws(() => sse({ event }), { code: 'FST_ERR_SHUTDOWN_OPTION' })
  for (const retry of [-1, 1.5, NaN, '1\n' as never]) t.throws(() => sse({ retry }), { code: 'FST_ERR_SHUTDOWN_OPTION' })
})
