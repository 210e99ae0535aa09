/** tRPC over WebSockets, with its Fastify adapter and with its adapter for ws. */
import fastifyWebsocket from '@fastify/websocket'
import { createTRPCClient, createWSClient, httpLink, wsLink } from '@trpc/client'
import { initTRPC } from '@trpc/server'
import { fastifyTRPCPlugin } from '@trpc/server/adapters/fastify'
import { applyWSSHandler } from '@trpc/server/adapters/ws'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import { createDeferred } from '../../lib/util/deferred'
import { eventually, portOf } from '../helpers/client'
import { entered, serve, type Served } from '../helpers/serve'
import type { ShutdownOptions } from '../../types/index'

const pause = (ms: number): Promise<void> => new Promise(resolve => { setTimeout(resolve, ms) })
const between20And200 = (): number => 20 + Math.random() * 180

const { router, procedure } = initTRPC.create()
const numberIn = (given: unknown): number => Number(given)
const appRouter = router({
  wait: procedure.input(numberIn).mutation(async ({ input }) => {
    await pause(input)
    return 'done'
  }),
  ticks: procedure.input(numberIn).subscription(async function * ({ input, signal }) {
    for (let count = 0; signal?.aborted !== true; count++) {
      yield count
      await pause(input)
    }
  })
})

interface Started extends Served {
  /** Sends all clients the message after which they connect again. */
  readonly reconnect: () => void
}

async function withFastify (t: Test, options: ShutdownOptions): Promise<Started> {
  const served = await serve(t, {
    options,
    routes: async app => {
      await app.register(fastifyWebsocket)
      await app.register(fastifyTRPCPlugin, { prefix: '/trpc', useWSS: true, trpcOptions: { router: appRouter } })
    }
  })
  return { ...served, reconnect: () => {} }
}

async function withWs (t: Test, options: ShutdownOptions): Promise<Started> {
  let reconnect = (): void => {}
  const served = await serve(t, {
    options,
    routes (app) {
      const handler = applyWSSHandler({ wss: new WebSocketServer({ server: app.server, path: '/trpc' }), router: appRouter })
      reconnect = () => handler.broadcastReconnectNotification()
    }
  })
  return { ...served, reconnect }
}

/** A client, and the code with which its first connection was closed. */
function createClient (t: Test, app: FastifyInstance) {
  const opened = createDeferred<void>()
  const closed = createDeferred<number | undefined>()
  let isClosed = false
  const ws = createWSClient({
    url: `ws://127.0.0.1:${portOf(app)}/trpc`,
    WebSocket: WebSocket as unknown as typeof globalThis.WebSocket,
    // Longer than a shutdown: it does not come back.
    retryDelayMs: () => 1_500,
    onOpen: opened.resolve,
    onClose (cause) {
      isClosed = true
      // It may already have tried to connect again, which fails with 1006.
      if (cause?.code !== 1006) closed.resolve(cause?.code)
    }
  })
  t.teardown(() => { void ws.close() })
  const trpc = createTRPCClient<typeof appRouter>({ links: [wsLink({ client: ws })] })
  return { trpc, opened: opened.promise, closed: closed.promise, get isClosed () { return isClosed } }
}

type Client = ReturnType<typeof createClient>

async function openMany (t: Test, app: FastifyInstance, count: number): Promise<Client[]> {
  const clients = Array.from({ length: count }, () => createClient(t, app))
  await Promise.all(clients.map(({ opened }) => opened))
  return clients
}

/** @returns how many calls got no answer */
async function callUntilClosed (client: Client, atOnce: number, onAnswer: () => void): Promise<number> {
  while (!client.isClosed) {
    const calls = Array.from({ length: atOnce }, () => client.trpc.wait.mutate(between20And200()))
    // A call that was not sent stays pending until the client connects again.
    const results = await Promise.race([Promise.allSettled(calls), client.closed.then(() => null)])
    if (results === null) {
      // The client has settled the calls that were sent when its connection closed.
      const states = await Promise.all(calls.map(call => Promise.race([call.then(() => 'answered', () => 'lost'), pause(20).then(() => 'not sent')])))
      return states.filter(state => state === 'lost').length
    }
    const lost = results.filter(({ status }) => status === 'rejected').length
    if (lost > 0) return lost
    onAnswer()
  }
  return 0
}

for (const [name, start] of [['the Fastify adapter', withFastify], ['the adapter for ws', withWs]] as const) {
  t.test(name, async t => {
    for (const delay of [0, 500]) {
      await t.test(`50 clients that call without a pause lose no call, with a lame-duck of ${delay} ms`, async t => {
        const { app, report } = await start(t, { delay })
        const clients = await openMany(t, app, 50)
        let answers = 0
        const losses = clients.map(client => callUntilClosed(client, 1, () => { answers++ }))
        await eventually(() => answers > 150, () => answers)
        void app.shutdown.start()
        t.equal((await Promise.all(losses)).reduce((sum, lost) => sum + lost, 0), 0)
        t.same((await Promise.all(clients.map(({ closed }) => closed))).filter(code => code !== 1001), [])
        t.match(await report, { outcome: 'clean', exitCode: 0, webSockets: { closed: 50, terminated: 0 } })
      })
    }

    await t.test('300 calls in flight, of which tRPC sends six as one message, all get their answers', async t => {
      const { app, report } = await start(t, {})
      const clients = await openMany(t, app, 50)
      const calls = clients.flatMap(({ trpc }) => Array.from({ length: 6 }, () => trpc.wait.mutate(between20And200())))
      await pause(15)
      void app.shutdown.start()
      t.same(await Promise.all(calls), calls.map(() => 'done'))
      t.match(await report, { outcome: 'clean', webSockets: { closed: 50, terminated: 0 } })
    })

    await t.test('a call beside a subscription gets its answer, and the client sees code 1001', async t => {
      const { app, report } = await start(t, { delay: 300 })
      const clients = await openMany(t, app, 5)
      const received = clients.map(() => 0)
      clients.forEach(({ trpc }, index) => { trpc.ticks.subscribe(40, { onData: () => { received[index]!++ } }) })
      await eventually(() => received.every(count => count >= 3), () => received)
      void app.shutdown.start()
      await entered(app, 'lame-duck')
      await pause(250)
      const calls = clients.map(({ trpc }) => trpc.wait.mutate(150))
      t.same(await Promise.all(calls), calls.map(() => 'done'))
      t.same(await Promise.all(clients.map(({ closed }) => closed)), clients.map(() => 1001))
      t.match(await report, { outcome: 'clean', webSockets: { closed: 5, terminated: 0 } })
    })
  })
}

t.test('in lame-duck, clients that get the reconnect message of tRPC finish their calls', async t => {
  const { app, report, reconnect } = await withWs(t, { delay: 1_000 })
  const [client] = await openMany(t, app, 1)
  app.shutdown.on('lame-duck', reconnect)
  const call = client!.trpc.wait.mutate(400)
  await pause(20)
  void app.shutdown.start()
  t.equal(await call, 'done')
  t.match(await report, { outcome: 'clean', exitCode: 0 })
})

t.test('its calls over HTTP are like other requests', async t => {
  const { app, report } = await withFastify(t, {})
  const client = createTRPCClient<typeof appRouter>({ links: [httpLink({ url: `http://127.0.0.1:${portOf(app)}/trpc` })] })
  const call = client.wait.mutate(150)
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  void app.shutdown.start()
  t.equal(await call, 'done')
  t.match(await report, { outcome: 'clean', requests: { completed: 1 } })
})
