/** A lame-duck that ends when no request comes: what prolongs it over real sockets, and what does not. */
import { createServer, type RequestListener } from 'node:http'
import t, { type Test } from 'tap'
import type { FastifyInstance } from 'fastify'
import type { ShutdownReport } from '../../types/index'
import { connect, eventually, get, openSession } from '../helpers/client'
import { entered, serve, type Setup } from '../helpers/serve'

const quiet = 400
const max = 3_000

/** An app with a lame-duck that has no shortest length. */
async function serveQuiet (t: Test, { min = 0, ...setup }: Setup & { min?: number } = {}): Promise<FastifyInstance> {
  const { app } = await serve(t, {
    ...setup,
    options: { delay: { min, max, quiet }, probes: true, ...setup.options },
    async routes (app) {
      app.get('/', async () => 'hello')
      app.get('/health', { config: { shutdown: { exempt: true } } }, async () => 'ok')
      await setup.routes?.(app)
    }
  })
  return app
}

/** Sends one request on a connection of its own. */
async function ask (app: FastifyInstance, path: string): Promise<number> {
  const client = await connect(app)
  client.send(get(path))
  const { status } = await client.answer()
  client.socket.destroy()
  return status
}

/** Waits until the server has this many connections. */
async function untilConnections (app: FastifyInstance, expected: number): Promise<void> {
  let current = -1
  const count = (): void => { app.server.getConnections((_error, now) => { current = now }) }
  await eventually(() => { count(); return current === expected }, () => `${current} connections`)
}

/** Repeats work as long as lame-duck lasts. @returns how often it ran */
async function during (app: FastifyInstance, work: () => Promise<unknown>): Promise<number> {
  let times = 0
  while (app.shutdownState.phase === 'lame-duck') {
    await work()
    times++
    await new Promise(resolve => { setTimeout(resolve, 50) })
  }
  return times
}

function lameDuckOf ({ phases }: ShutdownReport): number | null {
  const [first] = phases
  return first?.phase === 'lame-duck' ? first.durationMs : null
}

t.test('an idle app ends at once, and answers the connections that come while it drains', async t => {
  const app = await serveQuiet(t)
  const report = await app.shutdown.start()
  t.equal(lameDuckOf(report), null)
  t.equal(app.shutdownState.lameDuckEnd, null)
})

t.test('a request before the signal counts', async t => {
  const app = await serveQuiet(t)
  await ask(app, '/')
  const began = performance.now()
  const report = await app.shutdown.start()
  t.ok(performance.now() - began >= quiet - 100, 'lame-duck has lasted the rest of the quiet time')
  t.match(report.phases[0], { phase: 'lame-duck', endedBy: 'quiet' })
  t.equal(app.shutdownState.lameDuckEnd, 'quiet')
})

t.test('requests that keep coming prolong it to its longest time', async t => {
  const app = await serveQuiet(t)
  await ask(app, '/')
  const done = app.shutdown.start()
  t.ok(await during(app, () => ask(app, '/').catch(() => {})) > 5)
  const report = await done
  t.match(report.phases[0], { phase: 'lame-duck', endedBy: 'max' })
  t.ok(lameDuckOf(report)! >= max - 10, `${lameDuckOf(report)} ms`)
})

const notCounted: Record<string, (app: FastifyInstance) => Promise<unknown>> = {
  'a readiness probe on a connection of its own': app => ask(app, '/health/ready'),
  'an exempt route': app => ask(app, '/health'),
  'a HEAD request to a probe': async app => {
    const client = await connect(app)
    client.send(get('/health/live', {}, 'HEAD'))
    await client.answer(true)
    client.socket.destroy()
  },
  'a connection that closes without a byte': async app => {
    const client = await connect(app)
    client.socket.destroy()
  }
}
t.test('an exempt route that was added before the plugin was loaded does not prolong it', async t => {
  const app = await serveQuiet(t, { awaitRegister: false })
  await ask(app, '/')
  t.equal(await ask(app, '/health'), 200, 'its first request, by which it is observed')
  const done = app.shutdown.start()
  t.ok(await during(app, () => ask(app, '/health').catch(() => {})) > 1)
  t.match((await done).phases[0], { phase: 'lame-duck', endedBy: 'quiet' })
})

for (const [name, work] of Object.entries(notCounted)) {
  t.test(`${name} does not prolong it`, async t => {
    const app = await serveQuiet(t)
    await ask(app, '/')
    const done = app.shutdown.start()
    t.ok(await during(app, () => work(app).catch(() => {})) > 1)
    const report = await done
    t.match(report.phases[0], { phase: 'lame-duck', endedBy: 'quiet' })
    t.ok(lameDuckOf(report)! < max / 2, `${lameDuckOf(report)} ms`)
  })

  t.test(`${name} right before the signal begins no lame-duck`, async t => {
    const app = await serveQuiet(t)
    await work(app)
    await untilConnections(app, 0)
    t.equal(lameDuckOf(await app.shutdown.start()), null)
  })
}

t.test('requests, streams and WebSockets in flight do not prolong it', async t => {
  const app = await serveQuiet(t, { routes: app => { app.get('/slow', (_request, reply) => { app.shutdown.on('draining', () => { void reply.send('slow') }) }) } })
  const client = await connect(app)
  client.send(get('/slow'))
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const report = await app.shutdown.start()
  t.equal((await client.answer()).body, 'slow')
  t.match(report.phases[0], { phase: 'lame-duck', endedBy: 'quiet' })
  t.ok(lameDuckOf(report)! < max / 2)
})

t.test('a new connection counts until its first request has come', async t => {
  const app = await serveQuiet(t)
  const client = await connect(app)
  await untilConnections(app, 1)
  const done = app.shutdown.start()
  await entered(app, 'lame-duck')
  client.send(get('/'))
  t.equal((await client.answer()).status, 200, 'its request is served')
  t.match((await done).phases[0], { phase: 'lame-duck', endedBy: 'quiet' })
})

t.test('answers of other listeners on the server count', async t => {
  const app = await serveQuiet(t, {
    fastify: {
      serverFactory: (handler: RequestListener) => createServer((req, res) => {
        if (req.url === '/other') res.end('other')
        else handler(req, res)
      })
    }
  })
  t.equal(await ask(app, '/other'), 200)
  t.type(lameDuckOf(await app.shutdown.start()), 'number')
})

t.test('HTTP/2: a request counts, and a probe does not', async t => {
  for (const [path, isCounted] of [['/', true], ['/health/ready', false]] as const) {
    const app = await serveQuiet(t, { fastify: { http2: true } })
    const session = openSession(app)
    t.teardown(() => session.session.destroy())
    await session.get(path)
    // The connection itself counts from its accept.
    if (!isCounted) await new Promise(resolve => { setTimeout(resolve, quiet + 50) })
    await session.get(path)
    t.equal(lameDuckOf(await app.shutdown.start()) !== null, isCounted, path)
  }
})

t.test('a fixed delay is not shortened, and counts no request', async t => {
  const { app } = await serve(t, { options: { delay: 300 } })
  const report = await app.shutdown.start()
  t.match(report.phases[0], { phase: 'lame-duck', endedBy: 'delay' })
  t.ok(lameDuckOf(report)! >= 299)
})
