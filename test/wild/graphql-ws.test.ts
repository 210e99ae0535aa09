/** graphql-ws, with its handler for @fastify/websocket and with its server for ws. */
import fastifyWebsocket from '@fastify/websocket'
import { GraphQLInt, GraphQLObjectType, GraphQLSchema, GraphQLString } from 'graphql'
import { makeHandler } from 'graphql-ws/use/@fastify/websocket'
import { useServer } from 'graphql-ws/use/ws'
import t, { type Test } from 'tap'
import { WebSocketServer } from 'ws'
import { eventually, portOf } from '../helpers/client'
import { openGraphql, runUntilClosed, type GraphqlClient } from '../helpers/graphql-client'
import { entered, serve, type Served } from '../helpers/serve'
import type { ShutdownOptions } from '../../types/index'

const pause = (ms: number): Promise<void> => new Promise(resolve => { setTimeout(resolve, ms) })
const between20And200 = (): number => Math.round(20 + Math.random() * 180)

/** A schema, and how many of its mutations have begun. */
function createSchema () {
  const work = { started: 0 }
  const args = { ms: { type: GraphQLInt } }
  const schema = new GraphQLSchema({
    query: new GraphQLObjectType({ name: 'Query', fields: { hello: { type: GraphQLString, resolve: () => 'hello' } } }),
    mutation: new GraphQLObjectType({
      name: 'Mutation',
      fields: {
        wait: {
          type: GraphQLString,
          args,
          async resolve (_root: unknown, { ms }: { ms: number }) {
            work.started++
            await pause(ms)
            return 'done'
          }
        }
      }
    }),
    subscription: new GraphQLObjectType({
      name: 'Subscription',
      fields: {
        ticks: {
          type: GraphQLInt,
          args,
          async * subscribe (_root: unknown, { ms }: { ms: number }) {
            for (let ticks = 0; ; ticks++) {
              yield { ticks }
              await pause(ms)
            }
          }
        }
      }
    })
  })
  return { schema, work }
}

interface Started extends Served {
  readonly work: { readonly started: number }
  open(count: number): Promise<GraphqlClient[]>
}

async function start (t: Test, how: 'handler' | 'server', options: ShutdownOptions = {}): Promise<Started> {
  const { schema, work } = createSchema()
  const served = await serve(t, {
    options,
    routes: async app => {
      if (how === 'server') {
        useServer({ schema }, new WebSocketServer({ server: app.server, path: '/graphql' }))
        return
      }
      await app.register(fastifyWebsocket)
      void app.register(async app => { app.get('/graphql', { websocket: true }, makeHandler({ schema })) })
    }
  })
  const url = `ws://127.0.0.1:${portOf(served.app)}/graphql`
  return { ...served, work, open: count => Promise.all(Array.from({ length: count }, () => openGraphql(t, url))) }
}

for (const how of ['handler', 'server'] as const) {
  t.test(`graphql-ws with its ${how}`, async t => {
    for (const delay of [0, 500]) {
      await t.test(`50 clients that call without a pause lose no call, with a lame-duck of ${delay} ms`, async t => {
        const { app, report, open, work } = await start(t, how, { delay })
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

    await t.test('a mutation beside a subscription gets its answer, and the client sees code 1001', async t => {
      const { app, report, open } = await start(t, how, { delay: 300 })
      const clients = await open(5)
      const received = clients.map(() => 0)
      const subscriptions = clients.map(({ run }, index) => run('subscription { ticks(ms: 40) }', () => { received[index]!++ }).catch((cause: { code: number }) => cause.code))
      await eventually(() => received.every(count => count >= 3), () => received)
      void app.shutdown.start()
      await entered(app, 'lame-duck')
      await pause(250)
      const calls = clients.map(({ run }) => run('mutation { wait(ms: 150) }'))
      t.same(await Promise.all(calls), calls.map(() => ({ wait: 'done' })))
      t.same(await Promise.all(subscriptions), clients.map(() => 1001))
      t.match(await report, { outcome: 'clean', webSockets: { closed: 5, terminated: 0 } })
    })
  })
}
