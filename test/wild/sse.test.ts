/** @fastify/sse: every way to open a stream of events, and its end at shutdown. */
import { once } from 'node:events'
import http from 'node:http'
import { Readable, type Transform } from 'node:stream'
import fastifySse from '@fastify/sse'
import type { FastifyInstance, FastifyReply } from 'fastify'
import t, { type Test } from 'tap'
import { createDeferred } from '../../lib/util/deferred'
import { sleep } from '../../lib/util/time'
import type { ShutdownEvent, ShutdownOptions, StreamOptions, StreamSource } from '../../types/index'
import { connect, eventually, openSession, portOf } from '../helpers/client'
import { entered, serve, type Served } from '../helpers/serve'

const begun = 'event: tick\ndata: {"n":1}\n\n'
const marker = 'event: end\ndata: {"type":"end","reason":"shutdown"}\nretry: 1000\n\n'
const tick = { event: 'tick', data: { n: 1 } }

interface EventStream {
  /** What has arrived. */
  readonly text: () => string
  /** Resolves to whether the answer is complete, when it has ended. */
  readonly whole: Promise<boolean>
}

/** Opens a stream of events, as a browser does. */
async function open (app: FastifyInstance, path = '/'): Promise<EventStream> {
  const request = http.get({ port: portOf(app), host: '127.0.0.1', path, headers: { accept: 'text/event-stream' }, agent: false })
  const [res] = await once(request, 'response') as [http.IncomingMessage]
  let text = ''
  res.setEncoding('utf8').on('data', chunk => { text += chunk }).on('error', () => {})
  return { text: () => text, whole: new Promise(resolve => { res.once('close', () => resolve(res.complete)) }) }
}

interface Service extends Served {
  /** What the log would show at level warn or above. */
  readonly problems: ShutdownEvent[]
}

/** A service with one route for events. */
async function service (
  t: Test, handler: (reply: FastifyReply, app: FastifyInstance) => unknown, options: ShutdownOptions = {}, fastify: object = {}
): Promise<Service> {
  const problems: ShutdownEvent[] = []
  const served = await serve(t, {
    fastify,
    options: {
      exporters: [{ name: 'test', start: ({ listen }) => { listen(event => { if (event.type === 'problem' || event.type === 'request-cut') problems.push(event) }) } }],
      ...options
    },
    routes: async app => {
      await app.register(fastifySse)
      app.get('/', { sse: 'only' }, async (_request, reply) => await handler(reply, app) as undefined)
    }
  })
  return { ...served, problems }
}

async function endsWith (t: Test, { app, problems }: Service, text: string): Promise<void> {
  const stream = await open(app)
  await eventually(() => stream.text().includes(begun), stream.text)
  const [report, whole] = await Promise.all([app.shutdown.start(), stream.whole])
  t.equal(stream.text(), begun + text)
  t.ok(whole, 'the answer has its last chunk')
  t.match(report, { outcome: 'clean', exitCode: 0, streams: { ended: 1, cut: 0 } })
  t.ok(report.durationMs < 1_000, `took ${report.durationMs} ms`)
  t.same(problems, [])
}

/** Sources that yield one message, and never another. */
const sources: Record<string, () => StreamSource> = {
  async * 'an async generator' () {
    yield tick
    await new Promise(() => {})
  },
  'a Readable in object mode' () {
    const source = new Readable({ objectMode: true, read () {} })
    source.push(tick)
    return source
  },
  'a web stream of objects': () => new ReadableStream({ start: controller => controller.enqueue(tick) }) as unknown as StreamSource,
  'an iterator' () {
    const values = [tick]
    return { [Symbol.asyncIterator]: () => ({ next: async () => values.length > 0 ? { done: false, value: values.pop()! } : await new Promise(() => {}) }) }
  }
}

for (const [name, create] of Object.entries(sources)) {
  t.test(`reply.sse.send(app.shutdown.stream(source)) of ${name} passes objects through, and ends with its marker`, async t => {
    const end = { event: 'bye', data: { again: true } }
    const handler = (reply: FastifyReply, app: FastifyInstance): unknown => reply.sse.send(app.shutdown.stream(create(), { end }))
    await endsWith(t, await service(t, handler), 'event: bye\ndata: {"again":true}\n\n')
  })

  t.test(`for await reads app.shutdown.stream(source) of ${name}`, async t => {
    const handler = (reply: FastifyReply, app: FastifyInstance): unknown => reply.sse.send((async function * () {
      for await (const message of app.shutdown.stream(create(), { end: { data: 'bye' } })) yield message
    })())
    await endsWith(t, await service(t, handler), 'data: "bye"\n\n')
  })
}

const ends: Record<string, { readonly end?: StreamOptions['end'], readonly text: string }> = {
  'a function that returns an object': { end: () => ({ event: 'bye', data: 1, retry: 5 }), text: 'event: bye\ndata: 1\nretry: 5\n\n' },
  'a string': { end: 'bye', text: 'data: bye\n\n' },
  'a Buffer': { end: Buffer.from('bye'), text: 'data: bye\n\n' },
  'a Uint8Array': { end: new TextEncoder().encode('bye'), text: 'data: bye\n\n' },
  nothing: { text: '' }
}

for (const [name, { end, text }] of Object.entries(ends)) {
  t.test(`the marker of a stream of objects may be ${name}`, async t => {
    const handler = (reply: FastifyReply, app: FastifyInstance): unknown => reply.sse.send(
      app.shutdown.stream(sources['an async generator']!(), end === undefined ? {} : { end })
    )
    await endsWith(t, await service(t, handler), text)
  })
}

t.test('a stream of objects that ends by itself has no marker', async t => {
  const { app } = await service(t, (reply, app) => reply.sse.send(app.shutdown.stream([tick, tick], { end: { data: 'never' } })))
  const stream = await open(app)
  t.ok(await stream.whole)
  t.equal(stream.text(), begun + begun)
  t.equal((await app.shutdown.start()).outcome, 'clean')
})

/** Connections that do not use `shutdown.stream()`. */
const connections: Record<string, (reply: FastifyReply) => unknown> = {
  async 'keepAlive() and one message' (reply) {
    reply.sse.keepAlive()
    await reply.sse.send(tick)
  },
  async 'keepAlive() and a timer' (reply) {
    reply.sse.keepAlive()
    await reply.sse.send(tick)
    const timer = setInterval(() => { void reply.sse.send({ event: 'late', data: 1 }) }, 5_000)
    reply.sse.onClose(() => clearInterval(timer))
  },
  'an endless generator': reply => reply.sse.send((async function * () {
    yield tick
    await new Promise(() => {})
  })()),
  'an endless Readable': reply => reply.sse.send(sources['a Readable in object mode']!() as Readable),
  async 'a handler that does not return' (reply) {
    await reply.sse.send(tick)
    await new Promise(() => {})
  },
  async 'the transform stream of reply.sse.stream()' (reply) {
    reply.sse.keepAlive()
    const transform = reply.sse.stream() as Transform
    transform.pipe(reply.raw)
    transform.write(tick)
  }
}

for (const [name, handler] of Object.entries(connections)) {
  t.test(`an open connection (${name}) gets the default marker, and is closed`, async t => {
    await endsWith(t, await service(t, handler), marker)
  })
}

t.test('an open connection over HTTP/2 gets the default marker', async t => {
  const { app } = await service(t, connections['keepAlive() and one message']!, {}, { http2: true })
  const { request, session } = openSession(app)
  t.teardown(() => session.destroy())
  const stream = request({ ':path': '/', accept: 'text/event-stream' })
  let text = ''
  stream.setEncoding('utf8').on('data', chunk => { text += chunk })
  await eventually(() => text.includes(begun), () => text)
  const [report] = await Promise.all([app.shutdown.start(), once(stream, 'close')])
  t.equal(text, begun + marker)
  t.equal(report.outcome, 'clean')
})

t.test('a handler may end its own connection when draining begins, with its own last message', async t => {
  await endsWith(t, await service(t, async (reply, app) => {
    reply.sse.keepAlive()
    reply.sse.onClose(app.shutdown.on('draining', () => {
      void reply.sse.send({ data: 'own' }).then(() => reply.sse.close())
    }))
    await reply.sse.send(tick)
  }), 'data: "own"\n\n')
})

t.test('a connection with a category has its time, and ends by itself', async t => {
  const { app } = await serve(t, {
    options: { categories: { tokens: 5_000 } },
    routes: async app => {
      await app.register(fastifySse)
      app.get('/', { sse: 'only', config: { shutdown: { category: 'tokens' } } }, async (_request, reply) => {
        await reply.sse.send((async function * () {
          yield tick
          await sleep(400)
          yield { data: 'the last token' }
        })())
      })
    }
  })
  const stream = await open(app)
  await eventually(() => stream.text().includes(begun), stream.text)
  const [report, whole] = await Promise.all([app.shutdown.start(), stream.whole])
  t.ok(whole)
  t.equal(stream.text(), `${begun}data: "the last token"\n\n`)
  t.equal(report.outcome, 'clean')
})

t.test('a connection without a first message gets the default marker', async t => {
  const { app } = await service(t, async reply => {
    reply.sse.keepAlive()
    return reply // A message comes later.
  })
  const opened = open(app)
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const [report, stream] = await Promise.all([app.shutdown.start(), opened])
  t.ok(await stream.whole)
  t.equal(stream.text(), marker)
  t.equal(report.outcome, 'clean')
})

t.test('a connection that a request in flight opens while draining gets the default marker', async t => {
  const gate = createDeferred<void>()
  const { app } = await service(t, async reply => {
    await gate.promise
    reply.sse.keepAlive()
    await reply.sse.send(tick)
  })
  const opened = open(app)
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const closing = app.shutdown.start()
  await entered(app, 'draining')
  await sleep(250)
  gate.resolve()
  const stream = await opened
  t.ok(await stream.whole)
  t.equal(stream.text(), begun + marker)
  t.equal((await closing).outcome, 'clean')
})

t.test('a client that reads slowly gets all messages of its stream before the marker', async t => {
  const message = { data: 'x'.repeat(200_000) }
  let pulled = 0
  const { app } = await service(t, (reply, app) => reply.sse.send(app.shutdown.stream((function * () {
    for (;;) {
      pulled++
      yield message
    }
  })(), { end: { event: 'bye', data: 1 } })))
  const client = await connect(app)
  client.send('GET / HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\n\r\n')
  await client.until('xxx')
  client.socket.pause()
  let before = -1
  // The source is no longer read once the buffers of both kernels are full.
  while (before !== pulled) {
    before = pulled
    await sleep(100)
  }
  t.ok(pulled < 500, `${pulled} messages were read from the source`)
  const closing = app.shutdown.start()
  await entered(app, 'draining')
  await sleep(300)
  client.socket.resume()
  await client.over
  const messages = client.rest.match(/data: "x{200000}"/g)!.length
  t.ok(messages >= pulled - 1 && messages <= pulled, `${messages} of ${pulled} messages arrived`)
  t.match(client.rest, /event: bye\ndata: 1\n\n\r\n0\r\n\r\n$/)
  t.equal((await closing).outcome, 'clean')
})

t.test('an answer that is not a stream of events is not changed', async t => {
  const gate = createDeferred<void>()
  const { app } = await serve(t, {
    routes: async app => {
      await app.register(fastifySse)
      app.get('/', { sse: 'manual' }, async () => {
        await gate.promise
        return { plain: true }
      })
    }
  })
  const opened = open(app)
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const closing = app.shutdown.start()
  await entered(app, 'draining')
  await sleep(250)
  gate.resolve()
  const stream = await opened
  t.ok(await stream.whole)
  t.equal(stream.text(), '{"plain":true}')
  t.equal((await closing).outcome, 'clean')
})

t.test("another library's reply.sse is not changed, and the error of a reply.sse that throws is reported", async t => {
  for (const [sse, outcome, problems] of [
    [() => {}, 'forced', 0],
    [{ isConnected: true, send: 1, close: 2 }, 'forced', 0],
    [{ isConnected: true, send () { throw new Error('no') }, close () {} }, 'failed', 1]
  ] as const) {
    const seen: ShutdownEvent[] = []
    const { app } = await serve(t, {
      options: { timeouts: { streams: 350 }, exporters: [{ name: 'test', start: ({ listen }) => { listen(event => { if (event.type === 'problem') seen.push(event) }) } }] },
      routes: app => {
        app.get('/', (_request, reply) => {
          reply.hijack()
          Object.assign(reply, { sse })
          reply.raw.writeHead(200).write('begun')
        })
      }
    })
    const stream = await open(app)
    const [report, whole] = await Promise.all([app.shutdown.start(), stream.whole])
    t.notOk(whole)
    t.equal(report.outcome, outcome)
    t.equal(seen.length, problems)
  }
})
