/**
 * What an adapter takes for a client of its library: the real client, a client of a second copy of the library, and a
 * subclass; and not an object of the app that has the same methods, a wrapper that forwards them, or a Proxy.
 */
import { connect as connectAmqp } from 'amqplib'
import { FlowProducer, Queue, QueueEvents, Worker } from 'bullmq'
import { Cluster, Redis } from 'ioredis'
import { drizzle } from 'drizzle-orm/node-postgres'
import { Kafka, logLevel } from 'kafkajs'
import knex from 'knex'
import { Kysely, PostgresDialect } from 'kysely'
import { MongoClient } from 'mongodb'
import mongoose from 'mongoose'
import mqtt from 'mqtt'
import mysql from 'mysql2'
import mysqlPromise from 'mysql2/promise'
import { connect as connectNats } from 'nats'
import pg from 'pg'
import PgBoss from 'pg-boss'
import pino from 'pino'
import { Piscina } from 'piscina'
import postgres from 'postgres'
import { createClient, createClientPool, createCluster } from 'redis'
import { Sequelize } from 'sequelize'
import t from 'tap'
import { DataSource } from 'typeorm'
import { Agent, Client, Pool, RetryAgent, interceptors } from 'undici'
import { adapterFor, adapters } from '../../lib/resources/adapters/index'
import { serve } from '../helpers/serve'
import { findServer, unless, type ServiceName } from '../helpers/services'

/** A client without a server, and how to close it. */
type Example = readonly [client: object, end?: () => unknown]

const offline = { host: '127.0.0.1', port: 1, lazyConnect: true, maxRetriesPerRequest: null, retryStrategy: () => null }
const silent = <C extends { on (event: 'error', listener: () => void): unknown }>(client: C): C => { client.on('error', () => {}); return client }
const kafka = new Kafka({ brokers: ['127.0.0.1:1'], logLevel: logLevel.NOTHING })

/** The name of an adapter's kind -> clients of it. */
const examples: Readonly<Record<string, () => readonly Example[]>> = {
  'pg Pool': () => [[new pg.Pool()]],
  'pg Client': () => [[new pg.Client()]],
  ioredis: () => [[new Redis(offline)], [new Cluster([offline], { lazyConnect: true })]],
  'redis (node-redis)': () => [[createClient()], [createClientPool()], [createCluster({ rootNodes: [{}] })]],
  'BullMQ Worker': () => {
    const worker = silent(new Worker('look-alikes', null, { connection: offline, autorun: false }))
    return [[worker, () => worker.close(true)]]
  },
  'BullMQ Queue, QueueEvents or FlowProducer': () => {
    const clients = [
      silent(new Queue('look-alikes', { connection: offline })), silent(new QueueEvents('look-alikes', { connection: offline, autorun: false })),
      silent(new FlowProducer({ connection: offline }))
    ]
    return clients.map(client => [client, () => client.close().catch(() => {})])
  },
  'mysql2 Pool': () => [[mysql.createPool({})], [mysqlPromise.createPool({})]],
  'mysql2 Connection': () => {
    const connection = silent(mysql.createConnection({ port: 1 }))
    return [[connection, () => connection.destroy()]]
  },
  'mongodb MongoClient': () => [[new MongoClient('mongodb://127.0.0.1:1')]],
  'kafkajs consumer, producer or admin': () => [[kafka.producer()], [kafka.consumer({ groupId: 'a' })], [kafka.admin()]],
  'MQTT client': () => {
    const client = silent(mqtt.connect('mqtt://127.0.0.1:1', { reconnectPeriod: 0 }))
    return [[client, () => client.end(true)]]
  },
  'undici Client, Pool or Agent': () => [new Agent(), new Client('http://a'), new Pool('http://a'), new RetryAgent(new Agent())].map(client => [client]),
  knex: () => [[knex({ client: 'pg' })]],
  Kysely: () => [[new Kysely({ dialect: new PostgresDialect({ pool: new pg.Pool() }) })]],
  'Drizzle database': () => [[drizzle(new pg.Pool())]],
  'TypeORM DataSource': () => [[new DataSource({ type: 'postgres' })]],
  Sequelize: () => [[new Sequelize('postgres://a@127.0.0.1:1/a', { logging: false })]],
  mongoose: () => [[new mongoose.Mongoose()]],
  'mongoose Connection': () => [[mongoose.createConnection()]],
  'postgres.js': () => [[postgres('postgres://a@127.0.0.1:1/a')]],
  'pg-boss': () => [[new PgBoss('postgres://a@127.0.0.1:1/a')]],
  Piscina: () => {
    const pool = new Piscina({ filename: __filename, minThreads: 0 })
    return [[pool, () => pool.destroy()]]
  },
  'pino logger': () => [[pino()], [pino().child({})]],
  'pino destination': () => [[pino.destination({ sync: true })]]
}

/** Kinds whose client exists only with a server, or has no class of its own. */
const elsewhere = ['amqplib', 'amqp-connection-manager', 'NATS connection', 'OpenTelemetry', 'PrismaClient', 'Sentry']

const accepts = (client: object): boolean => adapters.some(({ matches }) => matches(client))
const refused = { code: 'FST_ERR_SHUTDOWN_CLIENT', message: /No adapter matches this client \(.*Known kinds: pg Pool, / }

/** The names of all methods and getters of an object, its own and inherited. */
function membersOf (client: object): { methods: string[], getters: string[] } {
  const methods = new Set<string>()
  const getters = new Set<string>()
  for (let each: object | null = client; each !== null && each !== Object.prototype && each !== Function.prototype; each = Object.getPrototypeOf(each) as object | null) {
    for (const [name, { get, value }] of Object.entries(Object.getOwnPropertyDescriptors(each))) {
      if (name === 'constructor') continue
      if (get !== undefined) getters.add(name)
      else if (typeof value === 'function') methods.add(name)
    }
  }
  return { methods: [...methods], getters: [...getters] }
}

/** An object of a class with the same methods and getters, and the same name. */
function wrapperOf (client: object): object {
  const { methods, getters } = membersOf(client)
  const Wrapper = class {}
  const target = client as Record<string, any>
  for (const name of methods) Object.defineProperty(Wrapper.prototype, name, { value: (...args: unknown[]) => target[name](...args), configurable: true })
  for (const name of getters) Object.defineProperty(Wrapper.prototype, name, { get: () => target[name], configurable: true })
  Object.defineProperty(Wrapper, 'name', { value: client.constructor.name })
  return new Wrapper()
}

t.test('every adapter has an example here', async t => {
  for (const { kind } of adapters) t.ok(kind in examples || elsewhere.some(name => kind.startsWith(name)), kind)
})

for (const [kind, make] of Object.entries(examples)) {
  t.test(`${kind}: the client is accepted, and its wrapper, its look-alike and its Proxy are refused`, async t => {
    for (const [client, end] of make()) {
      t.teardown(() => end?.())
      const adapter = adapters.find(({ matches }) => matches(client))
      t.equal(adapter?.kind, kind)
      t.throws(() => adapterFor(wrapperOf(client)), refused, 'a wrapper that forwards')
      const names = membersOf(client).methods
      t.throws(() => adapterFor(Object.fromEntries(names.map(name => [name, () => {}]))), refused, 'an object with the same methods')
      // A copy of a kafkajs client is the client: its methods are closures.
      if (!kind.startsWith('kafkajs')) t.throws(() => adapterFor({ ...client, client }), refused, 'an object that holds the client')
      if (adapter?.mayBeProxy !== true) t.throws(() => adapterFor(new Proxy(client, {})), { message: /this client \(a Proxy: pass its target\)/ })
    }
  })
}

t.test('the clients that exist only with a server', async t => {
  const open: Partial<Record<ServiceName, () => Promise<readonly Example[]>>> = {
    rabbitmq: async () => {
      const connection = await connectAmqp(process.env['AMQP_URL'] ?? 'amqp://127.0.0.1')
      return [[await connection.createChannel()], [connection, () => connection.close()]]
    },
    nats: async () => {
      const connection = await connectNats({ servers: process.env['NATS_URL'] ?? '127.0.0.1:4222' })
      return [[connection, () => connection.close()]]
    }
  }
  for (const [name, make] of Object.entries(open)) {
    await t.test(name, unless(name as ServiceName, await findServer(name as ServiceName) !== undefined), async t => {
      for (const [client, end] of await make()) {
        t.teardown(() => end?.())
        t.ok(accepts(client))
        t.throws(() => adapterFor(wrapperOf(client)), refused)
        t.throws(() => adapterFor(Object.create(client) as object), refused)
      }
    })
  }
})

t.test('an object of the app that has two or three names in common is refused', async t => {
  class Pool { totalCount = 0; idleCount = 0; waitingCount = 0; connect (): void {} query (): void {} end (): void {} on (): void {} }
  const lookAlikes: object[] = [
    { quit () {}, disconnect () {} }, { status: 'ready', quit () {}, disconnect () {}, duplicate () {} }, new Pool(),
    { start () {}, shutdown () {} }, { forceFlush () {}, shutdown () {} }, { isOpen: true, on () {}, close () {}, destroy () {} },
    { connect () {}, disconnect () {}, on () {}, logger: () => ({}) }, { db () {}, startSession () {}, close () {}, on () {} },
    { createChannel () {}, createConfirmChannel () {}, close () {}, on () {} }, { child () {}, bindings () {}, flush () {} },
    { opts: {}, close () {}, addBulk () {} }, { flush () {}, close () {} }, { captureException () {}, flush () {}, close () {} }, { $connect () {}, $disconnect () {} }, Object.create(null) as object, { get status (): string { throw new Error('no') } }, { dispatch () {}, request () {}, close () {}, destroy () {} }, class Database { close (): void {} }, () => {}
  ]
  for (const client of lookAlikes) t.throws(() => adapterFor(client), refused)
})

t.test('OpenTelemetry: what implements one of its interfaces is accepted, and NodeSDK', async t => {
  const ends = { forceFlush () {}, shutdown () {} }
  const accepted = [
    ...['getTracer', 'getMeter', 'getLogger', 'onEmit', 'export'].map(name => ({ [name] () {}, ...ends })), { onStart () {}, onEnd () {}, ...ends },
    { collect () {}, setMetricProducer () {}, ...ends }, { _instrumentations: [], start () {}, shutdown () {} }
  ]
  for (const client of accepted) t.equal(adapterFor(client).last, true)
})

t.test('a subclass and a client of a second copy of the library are accepted', async t => {
  class Audited extends pg.Pool { audit (): void {} }
  t.ok(accepts(new Audited()))
  for (const name of ['pg', 'ioredis', 'mysql2']) {
    for (const file of Object.keys(require.cache)) if (file.includes(`/node_modules/${name}`)) delete require.cache[file]
  }
  const second = { pg: require('pg'), ioredis: require('ioredis'), mysql: require('mysql2') }
  t.not(second.pg.Pool, pg.Pool)
  for (const client of [new second.pg.Pool(), new second.pg.Client(), new second.ioredis.Redis(offline), second.mysql.createPool({})]) t.ok(accepts(client))
})

t.test('a dispatcher of undici that compose() has made is a Proxy, and closes', async t => {
  const agent = new Agent()
  const composed = agent.compose(interceptors.redirect({ maxRedirections: 1 }))
  await adapterFor(composed).close?.(new AbortController().signal)
  t.equal(agent.closed, true)
})

t.test('the same client has the same resource, so that its listeners do not grow in number', async t => {
  const pool = new pg.Pool()
  const first = adapterFor(pool)
  const count = pool.listenerCount('acquire')
  for (let i = 0; i < 20; i++) t.equal(adapterFor(pool), first)
  t.equal(pool.listenerCount('acquire'), count)
})

t.test('a decorator of the app that only looks like a client is not adopted, and the app starts and closes', async t => {
  const calls: string[] = []
  const { app, report } = await serve(t, {
    routes: app => {
      app.decorate('redis' as never, { quit () { calls.push('quit') }, disconnect () {} } as never)
      app.decorate('pg' as never, { pool: { connect () {}, end () { calls.push('end') } } } as never)
    }
  })
  await app.close()
  t.match(await report, { outcome: 'clean', resources: [] })
  t.same(calls, [])
})

t.test('a function is a client: knex and postgres.js close with the app, after their dependants', async t => {
  const db = knex({ client: 'pg' })
  const sql = postgres('postgres://a@127.0.0.1:1/a', { max: 1 })
  const { app, report } = await serve(t, {
    options: { resources: { db: { client: db }, sql: { client: sql }, worker: { dependsOn: ['db', 'sql'], close () {} } } }
  })
  await app.close()
  const { outcome, resources } = await report
  t.equal(outcome, 'clean')
  t.same(resources.map(({ name, outcome }) => [name, outcome]), [['db', 'closed'], ['sql', 'closed'], ['worker', 'closed']])
  t.equal(db.client.pool, undefined)
})

t.test('a client that is a Proxy by its library only is not asked for fields of other kinds', async t => {
  const asked: PropertyKey[] = []
  const proxy = new Proxy({}, { get: (_target, name) => { asked.push(name); return undefined } })
  t.throws(() => adapterFor(proxy), refused)
  t.notOk(asked.includes('_clients'))
})
