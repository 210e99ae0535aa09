/** One contract for every transport: the promises of a drain are the same for every transport. */
import { Readable } from 'node:stream'
import t, { type Test } from 'tap'
import type { FastifyInstance } from 'fastify'
import { sse } from '../../../lib/index'
import { createDeferred, type Deferred } from '../../../lib/util/deferred'
import { connect } from '../../helpers/client'
import { transports, type Transport } from '../../helpers/transports'

const big = 'x'.repeat(8_000_000)

function world (): { gate: Deferred<void>, entered: Deferred<void>, routes: (app: FastifyInstance) => void } {
  const gate = createDeferred<void>()
  const entered = createDeferred<void>()
  return {
    gate,
    entered,
    routes (app) {
      app.get('/', async () => 'ok')
      app.get('/slow', async () => {
        entered.resolve()
        await gate.promise
        return 'slow'
      })
      app.get('/stuck', async () => {
        entered.resolve()
        return await new Promise(() => {})
      })
      app.get('/big', async () => big)
      app.get('/sse', (_request, reply) => {
        const endless = Readable.from((async function * () {
          for (;;) {
            yield 'data: tick\n\n'
            // The pace of the events. No test waits for it.
            await new Promise(resolve => setTimeout(resolve, 5))
          }
        })())
        return reply.header('content-type', 'text/event-stream').send(app.shutdown.stream(endless, { end: sse() }))
      })
      app.get('/endless', (_request, reply) => {
        const source = new Readable({ read () {} })
        source.push('begun')
        return reply.send(source)
      })
    }
  }
}

for (const transport of transports) {
  void t.test(transport.name, async t => {
    await suite(t, transport)
  })
}

async function suite (t: Test, transport: Transport): Promise<void> {
  await t.test('a response in flight is complete, and the server closes right after it', async t => {
    const { gate, entered, routes } = world()
    const { app, port } = await transport.start({}, routes)
    const client = transport.connect(port)
    t.teardown(() => client.close())
    const slow = client.get('/slow')
    await entered.promise
    const closing = app.shutdown.start()
    gate.resolve()
    const answer = await slow
    const answeredAt = performance.now()
    const report = await closing
    t.equal(answer.body, 'slow')
    t.ok(answer.whole)
    t.ok(performance.now() - answeredAt < 5_000, 'stock Fastify waits 72 s for the keep-alive connection')
    t.equal(report.outcome, 'clean')
    t.equal(report.requests.completed, 1)
    checkStats(t, app)
  })

  await t.test('an idle connection that was used before does not delay the drain', async t => {
    const { app, port } = await transport.start({}, world().routes)
    const client = transport.connect(port)
    t.teardown(() => client.close())
    t.equal((await client.get('/')).status, 200)
    const report = await app.shutdown.start()
    t.ok(report.durationMs < 5_000, `took ${report.durationMs} ms`)
    t.equal(report.outcome, 'clean')
  })

  await t.test('a new request while draining is rejected with 503 and Retry-After', async t => {
    const { gate, entered, routes } = world()
    const { app, port } = await transport.start({ retryAfter: 7, newConnections: 'answer' }, routes)
    const client = transport.connect(port)
    t.teardown(() => client.close())
    const slow = client.get('/slow')
    await entered.promise
    const closing = app.shutdown.start()
    const other = transport.connect(port)
    t.teardown(() => other.close())
    const rejected = await other.get('/')
    t.equal(rejected.status, 503)
    t.equal(rejected.headers['retry-after'], '7')
    if (!transport.http2) t.equal(rejected.headers['connection'], 'close')
    t.equal(JSON.parse(rejected.body).code, 'FST_ERR_SHUTDOWN_DRAINING')
    gate.resolve()
    t.equal((await slow).body, 'slow')
    t.equal((await closing).requests.rejected, 1)
    checkStats(t, app)
  })

  await t.test('a slow reader receives the complete response', async t => {
    const { app, port } = await transport.start({}, world().routes)
    const client = transport.connect(port)
    t.teardown(() => client.close())
    const { rest } = await client.begin('/big')
    const [answer, report] = await Promise.all([rest, app.shutdown.start()])
    t.equal(answer.body.length, big.length)
    t.ok(answer.whole)
    t.equal(report.outcome, 'clean')
    checkStats(t, app)
  })

  await t.test('a stream of server-sent events ends with its end marker', async t => {
    const { app, port } = await transport.start({}, world().routes)
    const client = transport.connect(port)
    t.teardown(() => client.close())
    const { rest } = await client.begin('/sse')
    const [answer, report] = await Promise.all([rest, app.shutdown.start()])
    t.ok(answer.whole)
    t.ok(answer.body.endsWith('event: end\nretry: 1000\ndata: {"type":"end","reason":"shutdown"}\n\n'), answer.body.slice(-80))
    t.equal(report.outcome, 'clean')
    t.same(report.streams, { ended: 1, cut: 0 })
  })

  await t.test('a stream that ignores the signal is cut at timeouts.streams, and is counted in the report', async t => {
    const { app, port } = await transport.start({ timeouts: { streams: 200 } }, world().routes)
    const client = transport.connect(port)
    t.teardown(() => client.close())
    const { rest } = await client.begin('/endless')
    const [answer, report] = await Promise.all([rest, app.shutdown.start()])
    t.notOk(answer.whole, 'the reader sees that the response is incomplete')
    t.equal(report.outcome, 'forced')
    t.equal(report.exitCode, 1)
    t.same(report.streams, { ended: 0, cut: 1 })
    t.ok(report.durationMs >= 199 && report.durationMs < 5_000, `took ${report.durationMs} ms`)
    checkStats(t, app)
  })

  await t.test('a stuck request gets a 503 at timeouts.requests, and is named in the report', async t => {
    const { entered, routes } = world()
    const { app, port } = await transport.start({ timeouts: { requests: 200 } }, routes)
    const client = transport.connect(port)
    t.teardown(() => client.close())
    const stuck = client.get('/stuck')
    await entered.promise
    const [answer, report] = await Promise.all([stuck, app.shutdown.start()])
    t.equal(answer.status, 503)
    t.equal(answer.headers['retry-after'], '10')
    t.match(report.requests.cut, [{ method: 'GET', route: '/stuck' }])
    t.ok(report.durationMs < 5_000, `took ${report.durationMs} ms`)
    checkStats(t, app)
  })

  await t.test('a client that leaves in the middle of its request is counted once', async t => {
    const { gate, entered, routes } = world()
    const { app, port } = await transport.start({}, routes)
    const client = transport.connect(port)
    const answer = client.get('/slow').catch(() => null)
    await entered.promise
    client.close()
    gate.resolve()
    await answer
    await app.shutdown.start()
    checkStats(t, app)
    t.equal(app.shutdownState.stats.aborted + app.shutdownState.stats.completed, 1)
  })

  await t.test('a silent connection does not delay the drain', async t => {
    const { app, port } = await transport.start({}, world().routes)
    const silent = await connect(port)
    const client = transport.connect(port)
    t.teardown(() => client.close())
    await client.get('/') // The silent connection was opened first, so it has been accepted too.
    const report = await app.shutdown.start()
    await silent.over
    t.ok(report.durationMs < 5_000, `took ${report.durationMs} ms`)
    t.equal(report.outcome, 'clean')
  })
}

function checkStats (t: Test, app: FastifyInstance): void {
  const { stats, activeRequests, activeStreams } = app.shutdownState
  t.equal(stats.received, stats.completed + stats.rejected + stats.aborted + stats.cut, 'each request is counted in exactly one way')
  t.equal(activeRequests, 0)
  t.equal(activeStreams, 0)
}
