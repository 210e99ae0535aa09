/** How long an answer may take while draining: an answer of known length, and an answer of unknown length. */
import { once } from 'node:events'
import type { ServerHttp2Stream } from 'node:http2'
import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply } from 'fastify'
import t, { type Test } from 'tap'
import type gracefulShutdown from '../../../lib/index'
import { sleep } from '../../../lib/util/time'
import { eventually } from '../../helpers/client'
import { transports, type Transport } from '../../helpers/transports'

const http1 = transports[0]!
const h2c = transports[2]!

/** The first half of the body at once, and the rest after `ms` milliseconds; never if that is `Infinity`. */
async function * halves (ms: number): AsyncGenerator<Buffer> {
  yield Buffer.alloc(50_000, 'a')
  await (ms === Infinity ? new Promise(() => {}) : sleep(ms))
  yield Buffer.alloc(50_000, 'b')
}

async function writeHalves (reply: FastifyReply, ms: number): Promise<void> {
  for await (const half of halves(ms)) reply.raw.write(half)
  reply.raw.end()
}

type Send = (reply: FastifyReply, ms: number) => unknown

/** Ways to send 100 000 bytes whose length the client knows from the header. */
const finite: Record<string, Send> = {
  'reply.header() and a stream': (reply, ms) => reply.header('content-length', 100_000).send(Readable.from(halves(ms))),
  'reply.header() and a web stream': (reply, ms) => reply.header('Content-Length', '100000').send(Readable.toWeb(Readable.from(halves(ms)))),
  'a Response': (_reply, ms) => new Response(Readable.toWeb(Readable.from(halves(ms))) as never, { headers: { 'content-length': '100000' } }),
  'setHeader() of the raw response' (reply, ms) {
    reply.hijack()
    reply.raw.setHeader('Content-Length', 100_000)
    void writeHalves(reply, ms)
  },
  'writeHead() with an object' (reply, ms) {
    reply.hijack()
    reply.raw.writeHead(200, { 'Content-Length': 100_000 })
    void writeHalves(reply, ms)
  },
  'writeHead() with a list' (reply, ms) {
    reply.hijack()
    reply.raw.writeHead(206, ['Content-Type', 'application/octet-stream', 'CONTENT-LENGTH', '100000'] as never)
    void writeHalves(reply, ms)
  },
  'writeHead() after setHeader()' (reply, ms) {
    reply.hijack()
    reply.raw.setHeader('etag', '"1"')
    reply.raw.writeHead(200, { 'content-length': '100000' })
    void writeHalves(reply, ms)
  }
}

const onlyHttp2: Record<string, Send> = {
  'respond() of the HTTP/2 stream' (reply, ms) {
    reply.hijack()
    const { stream } = reply.raw as unknown as { stream: ServerHttp2Stream }
    stream.respond({ ':status': 200, 'Content-Length': 100_000 })
    Readable.from(halves(ms)).pipe(stream)
  }
}

/** Ways to send 100 000 bytes whose length the client does not know. */
const endless: Record<string, Send> = {
  'a stream': (reply, ms) => reply.send(Readable.from(halves(ms))),
  'raw writes without headers' (reply, ms) {
    reply.hijack()
    reply.raw.write('')
    void writeHalves(reply, ms)
  },
  'a web stream': (reply, ms) => reply.send(Readable.toWeb(Readable.from(halves(ms)))),
  'raw writes' (reply, ms) {
    reply.hijack()
    reply.raw.writeHead(200, { 'content-type': 'text/plain' })
    void writeHalves(reply, ms)
  }
}

async function begin (
  t: Test, transport: Transport, options: gracefulShutdown.Options, send: Send, ms: number, routes: (app: FastifyInstance) => void = () => {}
): Promise<{ app: FastifyInstance, rest: Promise<{ readonly body: string, readonly whole: boolean }> }> {
  const { app, port } = await transport.start(options, app => {
    app.get('/', async (_request, reply) => await send(reply, ms) ?? reply)
    routes(app)
  })
  const client = transport.connect(port)
  t.teardown(() => client.close())
  const { rest } = await client.begin('/')
  return { app, rest }
}

for (const transport of [http1, h2c]) {
  void t.test(`an answer of known length is a request, over ${transport.name}`, async t => {
    const ways = transport.http2 ? { ...finite, ...onlyHttp2 } : finite
    for (const [name, send] of Object.entries(ways)) {
      await t.test(`${name}: it has timeouts.requests`, async t => {
        const { app, rest } = await begin(t, transport, { timeouts: { requests: 5_000, streams: 50 } }, send, 200)
        await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
        t.equal(app.shutdownState.activeStreams, 0)
        const [answer, report] = await Promise.all([rest, app.shutdown.start()])
        t.equal(answer.body.length, 100_000)
        t.ok(answer.whole)
        t.match(report, { outcome: 'clean', requests: { completed: 1, cut: [] }, streams: { ended: 0, cut: 0 } })
      })
    }

    await t.test('it is cut at timeouts.requests, and reported as a request', async t => {
      const { app, rest } = await begin(
        t, transport, { timeouts: { requests: 150 } }, finite['reply.header() and a stream']!, Infinity
      )
      const [answer, report] = await Promise.all([rest, app.shutdown.start()])
      t.notOk(answer.whole)
      t.ok(report.durationMs >= 149 && report.durationMs < 5_000, `took ${report.durationMs} ms`)
      t.match(report, { outcome: 'forced', requests: { cut: [{}] }, streams: { ended: 0, cut: 0 } })
    })

    for (const [name, send] of Object.entries(endless)) {
      await t.test(`${name} without a length has timeouts.streams`, async t => {
        const { app, rest } = await begin(t, transport, { timeouts: { requests: 5_000, streams: 100 } }, send, Infinity)
        await eventually(() => app.shutdownState.activeStreams === 1, () => app.shutdownState)
        const [answer, report] = await Promise.all([rest, app.shutdown.start()])
        t.notOk(answer.whole)
        t.ok(report.durationMs < 4_000, `took ${report.durationMs} ms`)
        t.match(report, { outcome: 'forced', requests: { cut: [] }, streams: { ended: 0, cut: 1 } })
      })
    }
  })
}

void t.test('without timeouts of the user, an answer that has begun may take all the time that is left', async t => {
  // Scaled: total 1 900 ms, requests 950 ms, streams, tasks and resources 317 ms each.
  const gracePeriod = 2_000

  for (const [name, send] of Object.entries({ 'of unknown length': endless['a stream']!, 'of known length': finite['writeHead() with an object']! })) {
    await t.test(`an answer ${name} is whole after its scaled timeout`, async t => {
      const { app, rest } = await begin(t, http1, { gracePeriod }, send, 1_200)
      const [answer, report] = await Promise.all([rest, app.shutdown.start()])
      t.ok(answer.whole)
      t.match(report, { outcome: 'clean' })
    })

    await t.test(`an answer ${name} that never ends leaves the resources their time, and the total holds`, async t => {
      let remaining = 0
      const { app, rest } = await begin(t, http1, { gracePeriod }, send, Infinity, app => {
        app.shutdown.resource('database', {
          async close () {
            remaining = app.shutdownState.remaining
            await sleep(200) // The time is the thing under test: the resource needs a part of its reserve.
          }
        })
      })
      const [answer, report] = await Promise.all([rest, app.shutdown.start()])
      t.notOk(answer.whole)
      t.ok(remaining > 217 && remaining <= 317, `${remaining} ms are left for the database`)
      t.ok(report.durationMs < 2_000, `took ${report.durationMs} ms`)
      t.match(report, { outcome: 'forced', resources: [{ outcome: 'closed' }] })
    })
  }

  await t.test('a running task keeps the time of timeouts.tasks', async t => {
    const { app, rest } = await begin(t, http1, { gracePeriod }, endless['a stream']!, Infinity)
    const began = performance.now()
    const cut = once(app.shutdownState.signal, 'abort').then(async () => {
      await rest
      return performance.now() - began
    })
    void app.shutdown.task('parcel', () => cut.then(() => sleep(200)))
    const report = await app.shutdown.start()
    const ms = await cut
    t.ok(ms > 1_200 && ms < 1_550, `cut after ${ms} ms, which is the total without the resources and the tasks`)
    t.match(report.tasks, [{ name: 'parcel', outcome: 'completed' }])
  })

  await t.test('a request whose answer has not begun has timeouts.requests', async t => {
    const { app, port } = await http1.start({ gracePeriod }, app => { app.get('/', async () => await new Promise(() => {})) })
    const client = http1.connect(port)
    t.teardown(() => client.close())
    const answer = client.get('/')
    await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
    const report = await app.shutdown.start()
    t.match(await answer, { status: 503 })
    t.ok(report.durationMs > 940 && report.durationMs < 1_300, `took ${report.durationMs} ms`)
  })
})
