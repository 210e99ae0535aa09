/**
 * Containment: whatever throws inside one step of the shutdown, the other steps run. Every method of our own parts that
 * a shutdown calls throws in turn, with traffic over real sockets. The methods are found by a shutdown without a fault.
 */
import { once } from 'node:events'
import type { FastifyInstance } from 'fastify'
import fastifyWebsocket from '@fastify/websocket'
import t, { type Test } from 'tap'
import WebSocket from 'ws'
import { createDeferred } from '../../lib/util/deferred'
import type { ShutdownReport } from '../../types/index'
import { connect, eventually, get, openSession, portOf } from '../helpers/client'
import { replaceFactories, sabotage } from '../helpers/sabotage'
import { serve } from '../helpers/serve'

const delay = 60
const timeouts = { requests: 1_200, streams: 1_200, tasks: 400, resources: 600, total: 3_000 }
/** Time after the total until `start()` must have resolved, in milliseconds: see `createCaller`. */
const backstop = 2_000

/** The entry, the containment itself, and methods that only read a number: nothing around them could contain them. */
const uncontained = /^create(Methods|Shutdown|Caller|Containment|Problems|AppClose|Close)\.|^createEvents\.emit$|^createResources\.startTeardown$|^createLifecycle\.(on|hasReached|elapsed|remaining)$/

/** Steps after the report, which cannot contain their errors. */
const afterReport = /^(connectManagers|startAppExporters|startExporters|joinProcess|createSecondSignal)/

replaceFactories()

interface Run {
  readonly report: ShutdownReport
  readonly took: number
  /** The resources that have closed. */
  readonly closed: readonly string[]
}

/** Shuts down an app with traffic. @param onCall called before each method of our parts, from the start on */
async function shutDown (t: Test, isHttp2: boolean, onCall: (point: string) => void): Promise<Run> {
  const closed: string[] = []
  const gate = createDeferred<void>()
  let isArmed = false
  const { app } = await sabotage(point => { if (isArmed) onCall(point) }, () => serve(t, {
    fastify: isHttp2 ? { http2: true } : {},
    options: {
      delay,
      timeouts,
      resources: {
        database: { close: () => { closed.push('database') } },
        worker: { dependsOn: ['database'], pause () {}, close: () => { closed.push('worker') } }
      }
    },
    async routes (app) {
      if (!isHttp2) {
        await app.register(fastifyWebsocket)
        app.get('/socket', { websocket: true }, () => {})
      }
      app.addHook('onClose', async () => { closed.push('hook') })
      app.get('/', async () => 'hello')
      app.get('/held', async () => {
        await gate.promise
        return 'held'
      })
      app.get('/stream', (_request, reply) => reply.send(app.shutdown.stream(endless(), { end: 'over' })))
    }
  }))
  await (isHttp2 ? openStreams(t, app) : openConnections(t, app))
  void app.shutdown.task('mail', async signal => { await once(signal, 'abort') })
  isArmed = true
  app.shutdown.on('draining', () => gate.resolve())
  const began = performance.now()
  const report = await app.shutdown.start()
  const took = performance.now() - began
  isArmed = false
  return { report, took, closed }
}

async function * endless (): AsyncGenerator<string> {
  yield 'first'
  await new Promise(() => {})
}

/** An idle connection, a silent one, half a request, a request in flight, a stream and a WebSocket. */
async function openConnections (t: Test, app: FastifyInstance): Promise<void> {
  const [idle, silent, half, held, stream] = await Promise.all(Array.from({ length: 5 }, () => connect(app))) as [Client, Client, Client, Client, Client]
  const webSocket = new WebSocket(`ws://127.0.0.1:${portOf(app)}/socket`)
  webSocket.on('error', () => {})
  t.teardown(() => {
    webSocket.terminate()
    for (const { socket } of [idle, silent, half, held, stream]) socket.destroy()
  })
  idle.send(get('/'))
  await idle.answer()
  half.send('GET / HTTP/1.1\r\nHost:')
  held.send(get('/held'))
  stream.send(get('/stream'))
  await Promise.all([stream.begin(), once(webSocket, 'open')])
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
}

async function openStreams (t: Test, app: FastifyInstance): Promise<void> {
  const { session, request } = openSession(portOf(app))
  session.on('error', () => {})
  t.teardown(() => session.destroy())
  for (const path of ['/', '/held', '/stream']) request({ ':path': path }).on('error', () => {}).resume().end()
  await eventually(() => app.shutdownState.activeRequests === 1 && app.shutdownState.activeStreams === 1, () => app.shutdownState)
}

type Client = Awaited<ReturnType<typeof connect>>

for (const isHttp2 of [false, true]) {
  void t.test(`a shutdown of ${isHttp2 ? 'HTTP/2' : 'HTTP/1'} in which any step throws ends in time and closes the resources`, { jobs: 8 }, async t => {
    const points = new Set<string>()
    const clean = await shutDown(t, isHttp2, point => points.add(point))
    t.match(clean.report, { outcome: 'clean', exitCode: 0, errors: [] }, 'nothing fails without a fault')
    const steps = [...points].filter(point => !uncontained.test(point))
    t.ok(steps.length >= 40, `${steps.length} methods`)

    for (const step of steps) {
      void t.test(step, async t => {
        let hasThrown = false
        const { report, took, closed } = await shutDown(t, isHttp2, point => {
          if (point !== step) return
          hasThrown = true
          throw new Error(`no ${step}`)
        })
        t.ok(took < delay + timeouts.total + backstop, `${Math.round(took)} ms`)
        t.same([...closed].sort(), ['database', 'hook', 'worker'])
        // A timer of the first run may not fire in this one.
        if (afterReport.test(step) || !hasThrown) return
        t.match(report, { outcome: 'failed', exitCode: 1 })
        t.ok(report.errors.some(({ message }) => message.includes(`no ${step}`)), report.errors.map(({ message }) => message).join('; '))
      })
    }
  })
}
