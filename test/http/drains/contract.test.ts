/** One contract for every transport: what a drain promises does not depend on how the client came in. */
import { once } from 'node:events'
import net from 'node:net'
import { Readable } from 'node:stream'
import t, { type Test } from 'tap'
import type { FastifyInstance } from 'fastify'
import { sse } from '../../../lib/index'
import { createDeferred, type Deferred } from '../../../lib/util/deferred'
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
        const endless = Readable.from((async function * () { for (;;) { yield 'data: tick\n\n'; await new Promise(resolve => setTimeout(resolve, 5)) } })())
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
  await t.test('an answer in flight is whole, and the server is gone right after', async t => {
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
    t.ok(performance.now() - answeredAt < 5_000, 'Fastify would have waited 72 s for the keep-alive connection')
    t.equal(report.outcome, 'clean')
    t.equal(report.requests.completed, 1)
    checkStats(t, app)
  })

  await t.test('a connection that was served before and is idle does not hold it', async t => {
    const { app, port } = await transport.start({}, world().routes)
    const client = transport.connect(port)
    t.teardown(() => client.close())
    t.equal((await client.get('/')).status, 200)
    const report = await app.shutdown.start()
    t.ok(report.durationMs < 5_000, `took ${report.durationMs} ms`)
    t.equal(report.outcome, 'clean')
  })

  await t.test('a new request while draining is refused, and told when to come back', async t => {
    const { gate, entered, routes } = world()
    const { app, port } = await transport.start({ retryAfter: 7, newConnections: 'answer' }, routes)
    const client = transport.connect(port)
    t.teardown(() => client.close())
    const slow = client.get('/slow')
    await entered.promise
    const closing = app.shutdown.start()
    const stranger = transport.connect(port)
    t.teardown(() => stranger.close())
    const refused = await stranger.get('/')
    t.equal(refused.status, 503)
    t.equal(refused.headers['retry-after'], '7')
    if (!transport.http2) t.equal(refused.headers['connection'], 'close')
    t.equal(JSON.parse(refused.body).code, 'FST_ERR_SHUTDOWN_DRAINING')
    gate.resolve()
    t.equal((await slow).body, 'slow')
    t.equal((await closing).requests.rejected, 1)
    checkStats(t, app)
  })

  await t.test('a slow reader gets all of it', async t => {
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

  await t.test('a stream of events ends with its marker', async t => {
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

  await t.test('a stream that ignores the signal is cut at the end of its stage, and named', async t => {
    const { app, port } = await transport.start({ timeouts: { streams: 200 } }, world().routes)
    const client = transport.connect(port)
    t.teardown(() => client.close())
    const { rest } = await client.begin('/endless')
    const [answer, report] = await Promise.all([rest, app.shutdown.start()])
    t.notOk(answer.whole, 'its reader can tell that it was cut')
    t.equal(report.outcome, 'forced')
    t.equal(report.exitCode, 1)
    t.same(report.streams, { ended: 0, cut: 1 })
    t.ok(report.durationMs >= 199 && report.durationMs < 5_000, `took ${report.durationMs} ms`)
    checkStats(t, app)
  })

  await t.test('a request that is stuck gets a 503 at the end of its stage, and is named', async t => {
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

  await t.test('a client that goes away in the middle is counted once', async t => {
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

  await t.test('a connection that never says a word does not hold it', async t => {
    const { app, port } = await transport.start({}, world().routes)
    const silent = net.connect(port, '127.0.0.1')
    silent.on('error', () => {}).resume()
    await once(silent, 'connect')
    const client = transport.connect(port)
    t.teardown(() => client.close())
    await client.get('/') // by now the silent one has been accepted too
    const gone = once(silent, 'close')
    const report = await app.shutdown.start()
    await gone
    t.ok(report.durationMs < 5_000, `took ${report.durationMs} ms`)
    t.equal(report.outcome, 'clean')
  })
}

function checkStats (t: Test, app: FastifyInstance): void {
  const { stats, activeRequests, activeStreams } = app.shutdownState
  t.equal(stats.received, stats.completed + stats.rejected + stats.aborted + stats.cut, 'every request became something')
  t.equal(activeRequests, 0)
  t.equal(activeStreams, 0)
}
