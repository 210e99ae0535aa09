/** mercurius: GraphQL over HTTP, and subscriptions over WebSockets. */
import mercurius, { type PubSub } from 'mercurius'
import t, { type Test } from 'tap'
import { connect, eventually, portOf, post } from '../helpers/client'
import { openGraphql, runUntilClosed, type GraphqlClient } from '../helpers/graphql-client'
import { entered, serve, type Served } from '../helpers/serve'
import type { ShutdownOptions } from '../../types/index'

const pause = (ms: number): Promise<void> => new Promise(resolve => { setTimeout(resolve, ms) })
const between20And200 = (): number => Math.round(20 + Math.random() * 180)

interface Started extends Served {
  readonly work: { readonly started: number }
  /** Publishes a message to all subscribers. */
  publish(text: string): void
  open(count: number): Promise<GraphqlClient[]>
}

async function start (t: Test, options: ShutdownOptions = {}): Promise<Started> {
  const work = { started: 0 }
  const served = await serve(t, {
    options,
    routes: async app => {
      await app.register(mercurius, {
        schema: 'type Query { hello: String } type Mutation { wait(ms: Int): String } type Subscription { messages: String }',
        subscription: { fullWsTransport: true },
        resolvers: {
          Query: { hello: async () => 'hello' },
          Mutation: {
            async wait (_root: unknown, { ms }: { ms: number }) {
              work.started++
              await pause(ms)
              return 'done'
            }
          },
          Subscription: { messages: { subscribe: async (_root: unknown, _args: unknown, { pubsub }: { pubsub: PubSub }) => await pubsub.subscribe('messages') as never } }
        }
      })
    }
  })
  const { app } = served
  const url = `ws://127.0.0.1:${portOf(app)}/graphql`
  return {
    ...served,
    work,
    publish: text => app.graphql.pubsub.publish({ topic: 'messages', payload: { messages: text } }),
    open: count => Promise.all(Array.from({ length: count }, () => openGraphql(t, url)))
  }
}

t.test('subscribers get each message that is published before draining, and then code 1001', async t => {
  const { app, report, open, publish } = await start(t, { delay: 400 })
  const clients = await open(20)
  const received = clients.map(() => 0)
  const subscriptions = clients.map(({ run }, index) => run('subscription { messages }', () => { received[index]!++ }).catch((cause: { code: number }) => cause.code))
  await eventually(() => {
    publish('hello')
    return received.every(count => count > 0)
  }, () => received)
  await pause(50)
  const before = [...received]
  const began = performance.now()
  let published = 0
  const timer = setInterval(() => {
    if (performance.now() - began > 350 || app.shutdownState.phase !== 'lame-duck') return
    published++
    publish('hello')
  }, 40)
  t.teardown(() => clearInterval(timer))
  void app.shutdown.start()
  t.same(await Promise.all(subscriptions), clients.map(() => 1001))
  t.ok(published > 3)
  t.same(received.map((count, index) => count - before[index]!), clients.map(() => published))
  t.match(await report, { outcome: 'clean', exitCode: 0, webSockets: { closed: 20, terminated: 0 } })
})

t.test('quiet subscribers are closed evenly in lame-duck', async t => {
  const { app, report, open } = await start(t, { delay: 1_000 })
  const clients = await open(20)
  clients.forEach(({ run }) => { run('subscription { messages }').catch(() => {}) })
  await pause(350)
  const began = performance.now()
  void app.shutdown.start()
  const times = await Promise.all(clients.map(async ({ closed }) => {
    t.equal(await closed, 1001)
    return performance.now() - began
  }))
  t.ok(times.filter(time => time < 550).length >= 5, times.map(Math.round).join(', '))
  t.ok(times.filter(time => time > 550).length >= 5, times.map(Math.round).join(', '))
  t.match(await report, { outcome: 'clean', webSockets: { closed: 20, terminated: 0 } })
})

for (const delay of [0, 500]) {
  t.test(`50 clients that call over WebSockets without a pause lose no call, with a lame-duck of ${delay} ms`, async t => {
    const { app, report, open, work } = await start(t, { delay })
    const clients = await open(50)
    let answers = 0
    const loops = clients.map(client => runUntilClosed(client, () => `mutation { wait(ms: ${between20And200()}) }`, () => { answers++ }))
    await eventually(() => answers > 150, () => answers)
    void app.shutdown.start()
    await Promise.all(loops)
    t.equal(work.started - answers, 0, 'each mutation that has begun was answered to its end')
    t.same((await Promise.all(clients.map(({ closed }) => closed))).filter(code => code !== 1001), [])
    t.match(await report, { outcome: 'clean', exitCode: 0, webSockets: { closed: 50, terminated: 0 } })
  })
}

t.test('an operation over HTTP is answered, and a new one is rejected while draining', async t => {
  const { app, report } = await start(t, { newConnections: 'answer' })
  const body = (query: string): string => post('/graphql', JSON.stringify({ query })).replace('text/plain', 'application/json')
  const slow = await connect(app)
  slow.send(body('mutation { wait(ms: 200) }'))
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  void app.shutdown.start()
  await entered(app, 'draining')
  const late = await connect(app)
  late.send(body('{ hello }'))
  t.match(await late.answer(), { status: 503, headers: { 'retry-after': '10' } })
  t.match(await slow.answer(), { status: 200, headers: { connection: 'close' }, body: '{"data":{"wait":"done"}}' })
  t.match(await report, { outcome: 'clean', requests: { completed: 1, rejected: 1 } })
})
