/** Piscina, mongoose, Sentry, kafkajs and Prisma as resources. Each is the real library, except Prisma, whose client is generated. */
import * as Sentry from '@sentry/node'
import { connect as connectManager } from 'amqp-connection-manager'
import { connect } from 'amqplib'
import { drizzle } from 'drizzle-orm/node-postgres'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import net, { type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Kafka, Partitioners, logLevel } from 'kafkajs'
import knex from 'knex'
import { Kysely, type KyselyConfig } from 'kysely'
import mongooseModule from 'mongoose'
import pg from 'pg'
import PgBoss from 'pg-boss'
import { Piscina } from 'piscina'
import postgres from 'postgres'
import { Sequelize } from 'sequelize'
import t from 'tap'
import { DataSource } from 'typeorm'
import * as adapters from '../../lib/resources/adapters/index'
import { teardown } from '../../lib/resources/teardown'
import { close, inTime, resourceContract, state } from '../helpers/resource-contract'

const { adapterFor, mongoose } = adapters

t.test('piscina', async t => {
  const directory = mkdtempSync(join(tmpdir(), 'fastify-shutdown-piscina-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  const filename = join(directory, 'worker.cjs')
  writeFileSync(filename, "module.exports = ({ ms, forever }) => new Promise(resolve => { forever ? setInterval(() => {}, 1000) : setTimeout(resolve, ms, 'done') })")
  const open = (): Piscina => new Piscina({ filename, minThreads: 1, maxThreads: 1 })

  await resourceContract(t, {
    name: 'piscina',
    open: async () => {
      const pool = open()
      await pool.run({ ms: 1 })
      return { client: pool, work: async () => ({ result: pool.run({ ms: 300 }) }), isClosed: () => pool.threads.length === 0, end: () => pool.close() }
    }
  })

  t.test('the queued tasks finish before the pool closes', async t => {
    const pool = open()
    const tasks = Array.from({ length: 4 }, () => pool.run({ ms: 20 }))
    await inTime(close(adapterFor(pool)))
    t.same(await inTime(Promise.all(tasks)), ['done', 'done', 'done', 'done'])
  })

  t.test('force rejects a task that never ends, and the queued ones', async t => {
    const pool = open()
    const resource = adapterFor(pool)
    const tasks = [pool.run({ forever: true }), pool.run({ ms: 1 })].map(task => task.then(() => 'done', () => 'rejected'))
    const closing = close(resource)
    t.equal(await state(closing, 100), 'pending')
    await inTime(resource.force?.())
    await inTime(closing)
    t.same(await inTime(Promise.all(tasks)), ['rejected', 'rejected'])
  })
})

t.test('mongoose', async t => {
  /** A server that accepts connections and never answers. */
  const silent = async (): Promise<{ port: number, stop: () => void }> => {
    const sockets = new Set<net.Socket>()
    const server = net.createServer(socket => { sockets.add(socket); socket.on('error', () => {}) }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    return { port: (server.address() as AddressInfo).port, stop: () => { for (const socket of sockets) socket.destroy(); server.close() } }
  }

  t.test('a connection that never opened, and one whose server is down or silent, closes quickly', async t => {
    const frozen = await silent()
    t.teardown(frozen.stop)
    const idle = mongooseModule.createConnection()
    t.equal((await teardown({ idle: { client: idle } })).outcome, 'clean')
    for (const port of [1, frozen.port]) {
      const connection = mongooseModule.createConnection(`mongodb://127.0.0.1:${port}/test`, { serverSelectionTimeoutMS: 60_000 })
      connection.asPromise().catch(() => {})
      const resource = adapterFor(connection)
      const closing = close(resource)
      if (await state(closing, 500) === 'pending') await inTime(resource.force?.())
      await inTime(closing)
      t.equal(connection.readyState, 0)
    }
  })

  t.test('close waits for the operations, as the events of the driver show, and force does not', async t => {
    for (const isForced of [false, true]) {
      const instance = new mongooseModule.Mongoose()
      const connection = instance.createConnection('mongodb://127.0.0.1:1/test')
      connection.asPromise().catch(() => {})
      const client = connection.getClient()
      const resource = isForced ? adapterFor(connection) : mongoose(instance)
      const emit = client.emit.bind(client) as unknown as (event: string) => boolean
      emit('connectionCheckOutStarted')
      const closing = close(resource)
      t.equal(await state(closing, 50), 'pending')
      if (isForced) await inTime(resource.force?.())
      else emit('connectionCheckedIn')
      await inTime(closing)
      t.equal(connection.readyState, 0)
    }
  })

  t.test('the namespace closes all of its connections', async t => {
    const instance = new mongooseModule.Mongoose()
    const connections = [instance.connection, instance.createConnection('mongodb://127.0.0.1:1/test')]
    connections[1]!.asPromise().catch(() => {})
    const resource = adapterFor(instance)
    await inTime(close(resource))
    t.same(connections.map(connection => connection.readyState), [0, 0])
    t.equal(adapterFor(mongooseModule).last, undefined, 'the module itself is recognised')
  })
})

t.test('Sentry', async t => {
  await t.test('the namespace closes before init(), too', async t => {
    t.equal(Sentry.getClient(), undefined)
    await inTime(close(adapterFor({ ...Sentry })))
  })

  const received: string[] = []
  let isFrozen = false
  const server = http.createServer((request, response) => {
    let body = ''
    request.on('data', chunk => { body += String(chunk) })
    request.on('end', () => { if (!isFrozen) setTimeout(() => { received.push(body); response.end('{}') }, 100) })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.closeAllConnections(); server.close() })
  const { port } = server.address() as AddressInfo
  const client = Sentry.init({ dsn: `http://key@127.0.0.1:${port}/1`, defaultIntegrations: false })!

  for (const [name, of] of [['client', client], ['namespace', Sentry]] as const) {
    t.test(`close of the ${name} waits until its events are sent, and the resource is last`, async t => {
      const resource = adapterFor(of)
      t.equal(resource.last, true)
      Sentry.captureException(new Error(`the last error of the ${name}`))
      await inTime(close(resource))
      t.match(received.join(), `the last error of the ${name}`)
      Sentry.captureMessage(`later than the ${name}`)
      await client.flush()
      t.match(received.join(), `later than the ${name}`, 'an error of the rest of the shutdown is sent too')
    })
  }

  t.test('force drops what a frozen server does not take', async t => {
    isFrozen = true
    const Second = client.constructor as new (options: object) => typeof client
    const stuck = new Second(client.getOptions())
    stuck.init()
    const resource = adapterFor(stuck)
    stuck.captureException(new Error('nowhere'))
    const closing = close(resource)
    t.equal(await state(closing, 150), 'pending')
    await inTime(resource.force?.())
    await inTime(closing)
  })
})

t.test('kafkajs: a message whose request has not begun is sent before the producer disconnects', async t => {
  // There is no server, so the request is replaced.
  const producer = new Kafka({ brokers: ['127.0.0.1:1'], logLevel: logLevel.NOTHING }).producer({ createPartitioner: Partitioners.DefaultPartitioner })
  const calls: string[] = []
  producer.send = async () => { await new Promise(resolve => setTimeout(resolve, 50)); calls.push('sent'); return [] }
  producer.disconnect = async () => { calls.push('disconnect') }
  const resource = adapterFor(producer)
  producer.send({ topic: 'a', messages: [] }).catch(() => {})
  await inTime(close(resource))
  t.same(calls, ['sent', 'disconnect'])
})

t.test("each function of the entry point accepts its client's own type", async t => {
  // Compiled, and not called.
  const calls = async (): Promise<unknown> => [
    adapters.sentry(Sentry), adapters.sentry(Sentry.getClient()!), adapters.amqpConnectionManager(connectManager('')),
    adapters.amqpConnection(await connect('')), adapters.amqpRecoveringConnection(await connect('')), adapters.drizzle(drizzle(new pg.Pool())),
    adapters.knex(knex({})), adapters.kysely(new Kysely<unknown>({} as KyselyConfig)), adapters.mongoose(mongooseModule),
    adapters.mongooseConnection(mongooseModule.connection), adapters.pgBoss(new PgBoss('')), adapters.piscina(new Piscina()),
    adapters.postgresJs(postgres()), adapters.sequelize(new Sequelize()), adapters.typeOrmDataSource(new DataSource({ type: 'postgres' }))
  ]
  t.type(calls, 'function')
})

t.test('Prisma, by its documented methods: $disconnect is called once, also for the Proxy that $extends() returns', async t => {
  const calls: string[] = []
  class PrismaClient {
    async $connect (): Promise<void> {}
    async $disconnect (): Promise<void> { calls.push('$disconnect') }
    async $transaction (): Promise<void> {}
    $extends (): object { return new Proxy(this, {}) }
  }
  const client = new PrismaClient().$extends()
  const { outcome } = await teardown({ prisma: { client } })
  t.equal(outcome, 'clean')
  await close(adapterFor(client))
  t.same(calls, ['$disconnect'])
})
