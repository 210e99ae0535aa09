/**
 * What a client accepted before `close` has reached its server after it, though `close` comes in the same turn of the
 * event loop, and the client may still be connecting. Another client of the server is asked.
 */
import { Queue } from 'bullmq'
import { drizzle } from 'drizzle-orm/node-postgres'
import { sql as drizzleSql } from 'drizzle-orm'
import { Redis } from 'ioredis'
import knex from 'knex'
import { Kysely, PostgresDialect } from 'kysely'
import mqtt, { connectAsync } from 'mqtt'
import mysql from 'mysql2/promise'
import { connect as connectNats } from 'nats'
import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import pg from 'pg'
import postgres from 'postgres'
import { createClient } from 'redis'
import { DataTypes, Sequelize } from 'sequelize'
import t from 'tap'
import { DataSource, EntitySchema } from 'typeorm'
import { Agent, fetch } from 'undici'
import { adapterFor } from '../../lib/resources/adapters/index'
import { close, inTime } from '../helpers/resource-contract'
import { findServer, hasPostgres, hasRedis, startPostgres, startRedis, unless } from '../helpers/services'

const unique = `shutdown_test_${process.pid}`

/** Makes the resource before the client works, writes, and closes in the same turn. */
async function writeAndClose (client: object, write: () => unknown): Promise<void> {
  const resource = adapterFor(client)
  const written = Promise.resolve(write())
  written.catch(() => {})
  await inTime(close(resource))
  await inTime(written)
}

t.test('Redis', { ...unless('redis', hasRedis()), timeout: 60_000 }, async t => {
  const own = await startRedis()
  t.teardown(() => own.stop())
  const { host, port } = own
  const reader = new Redis({ host, port })
  t.teardown(() => reader.quit())

  const clients: [string, () => Promise<{ client: object, write: (key: string) => unknown }>][] = [
    ['ioredis', async () => { const client = new Redis({ host, port }); await client.ping(); return { client, write: key => client.set(key, 1) } }],
    ['ioredis that is connecting', async () => { const client = new Redis({ host, port }); return { client, write: key => client.set(key, 1) } }],
    ['ioredis that connects lazily', async () => { const client = new Redis({ host, port, lazyConnect: true }); return { client, write: key => client.set(key, 1) } }],
    ['ioredis with auto pipelining', async () => { const client = new Redis({ host, port, enableAutoPipelining: true }); await client.ping(); return { client, write: key => client.set(key, 1) } }],
    ['ioredis with a pipeline', async () => { const client = new Redis({ host, port }); return { client, write: key => client.pipeline().set('other', 1).set(key, 1).exec() } }],
    ['node-redis', async () => { const client = createClient({ socket: { host, port } }); await client.connect(); return { client, write: key => client.set(key, 1) } }],
    ['node-redis with a transaction', async () => { const client = createClient({ socket: { host, port } }); await client.connect(); return { client, write: key => client.multi().set(key, 1).exec() } }],
    ['node-redis that is connecting', async () => { const client = createClient({ socket: { host, port } }); client.on('error', () => {}); client.connect().catch(() => {}); return { client, write: key => client.set(key, 1) } }]
  ]
  for (const [name, open] of clients) {
    t.test(`${name}: the last command`, async t => {
      const { client, write } = await open()
      await writeAndClose(client, () => write(name))
      t.equal(await reader.get(name), '1')
    })
  }

  t.test('BullMQ: the last job and the last scheduler', async t => {
    const connection = { host, port }
    const queue = new Queue(unique, { connection })
    queue.on('error', () => {})
    await writeAndClose(queue, () => Promise.all([queue.add('job', {}), queue.upsertJobScheduler('nightly', { every: 60_000 })]))
    const other = new Queue(unique, { connection })
    t.equal((await other.getJobCounts('waiting', 'delayed'))['waiting']! >= 1, true)
    t.equal((await other.getJobSchedulers()).length, 1)
    await close(adapterFor(other))
  })
})

t.test('PostgreSQL', { ...unless('postgres', hasPostgres()), timeout: 60_000 }, async t => {
  const own = await findServer('postgres') === undefined ? await startPostgres() : undefined
  if (own !== undefined) t.teardown(() => own.stop())
  const { host, port } = own ?? (await findServer('postgres'))!
  const url = `postgres://postgres@${host}:${port}/postgres`
  const reader = new pg.Client(url)
  await reader.connect()
  await reader.query(`create table ${unique} (name text)`)
  t.teardown(async () => { await reader.query(`drop table ${unique}`); await reader.end() })
  const insert = (name: string): string => `insert into ${unique} values ('${name}')`

  const clients: [string, () => Promise<{ client: object, write: (name: string) => unknown }>][] = [
    ['pg Pool', async () => { const client = new pg.Pool({ connectionString: url }); return { client, write: name => client.query(insert(name)) } }],
    ['pg Client', async () => { const client = new pg.Client(url); await client.connect(); return { client, write: name => client.query(insert(name)) } }],
    ['pg Client that is connecting', async () => { const client = new pg.Client(url); return { client, write: name => { client.connect().catch(() => {}); return client.query(insert(name)) } } }],
    ['knex', async () => { const client = knex({ client: 'pg', connection: url }); return { client, write: async name => await client(unique).insert({ name }) } }],
    ['knex with a transaction', async () => { const client = knex({ client: 'pg', connection: url }); return { client, write: name => client.transaction(async trx => { await trx(unique).insert({ name }) }) } }],
    ['Kysely', async () => {
      const client = new Kysely<Record<string, { name: string }>>({ dialect: new PostgresDialect({ pool: new pg.Pool({ connectionString: url }) }) })
      return { client, write: name => client.withSchema('public').insertInto(unique).values({ name }).execute() }
    }],
    ['Drizzle', async () => { const client = drizzle(new pg.Pool({ connectionString: url })); return { client, write: async name => await client.execute(drizzleSql.raw(insert(name))) } }],
    ['postgres.js', async () => { const client = postgres(url); return { client, write: async name => await client.unsafe(insert(name)) } }],
    ['Sequelize, with a model', async () => {
      const client = new Sequelize(url, { logging: false })
      const model = client.define('row', { name: { type: DataTypes.TEXT, primaryKey: true } }, { tableName: unique, timestamps: false })
      return { client, write: name => model.create({ name }) }
    }],
    ['TypeORM, with a repository', async () => {
      const entity = new EntitySchema<{ name: string }>({ name: unique, tableName: unique, columns: { name: { type: 'text', primary: true } } })
      const client = new DataSource({ type: 'postgres', url, entities: [entity] })
      adapterFor(client)
      await client.initialize()
      return { client, write: name => client.getRepository(entity).save({ name }) }
    }]
  ]
  for (const [name, open] of clients) {
    t.test(`${name}: the last insert`, async t => {
      const { client, write } = await open()
      await writeAndClose(client, () => write(name))
      t.equal((await reader.query(`select 1 from ${unique} where name = $1`, [name])).rowCount, 1)
    })
  }
})

t.test('MariaDB', async t => {
  const server = await findServer('mysql')
  await t.test('mysql2: the last insert of a pool and of a connection', unless('mysql', server !== undefined), async t => {
    if (server === undefined) return
    const { host, port, user = 'root', password = '' } = server
    const options = { host, port, user, password }
    const reader = await mysql.createConnection(options)
    await reader.query(`create database ${unique}`)
    t.teardown(async () => { await reader.query(`drop database ${unique}`); await reader.end() })
    await reader.query(`create table ${unique}.rows_ (name text)`)
    const pool = mysql.createPool(options)
    await writeAndClose(pool, () => pool.query(`insert into ${unique}.rows_ values ('pool')`))
    const connection = await mysql.createConnection(options)
    await writeAndClose(connection, () => connection.execute(`insert into ${unique}.rows_ values ('connection')`))
    const [rows] = await reader.query(`select name from ${unique}.rows_`)
    t.same(rows, [{ name: 'pool' }, { name: 'connection' }])
  })
})

t.test('MQTT', async t => {
  const server = await findServer('mqtt')
  await t.test('the last publish of QoS 0, 1 and 2, also of a client that is connecting', unless('mqtt', server !== undefined), async t => {
    if (server === undefined) return
    const url = `mqtt://${server.host}:${server.port}`
    const reader = await connectAsync(url)
    t.teardown(() => reader.endAsync())
    await reader.subscribeAsync(`${unique}/#`, { qos: 2 })
    for (const qos of [0, 1, 2] as const) {
      for (const isConnected of [true, false]) {
        const client = isConnected ? await connectAsync(url) : mqtt.connect(url)
        const topic = `${unique}/${qos}/${String(isConnected)}`
        const arrived = new Promise<string>(resolve => { reader.on('message', each => { if (each === topic) resolve(each) }) })
        await writeAndClose(client, () => client.publishAsync(topic, 'last', { qos }))
        t.equal(await inTime(arrived), topic)
      }
    }
  })
})

t.test('NATS', async t => {
  const server = await findServer('nats')
  await t.test('the last publish', unless('nats', server !== undefined), async t => {
    if (server === undefined) return
    const servers = `${server.host}:${server.port}`
    const reader = await connectNats({ servers })
    t.teardown(() => reader.close())
    const arrived = new Promise<void>(resolve => { reader.subscribe(unique, { callback: () => resolve() }) })
    await reader.flush()
    const client = await connectNats({ servers })
    await writeAndClose(client, () => client.publish(unique))
    await inTime(arrived)
    t.pass('it has arrived')
  })
})

t.test('undici: the last fetch', async t => {
  const server = http.createServer((_request, response) => { response.end('done') }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.closeAllConnections(); server.close() })
  const agent = new Agent()
  let body: Promise<string> | undefined
  await writeAndClose(agent, () => { body = fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, { dispatcher: agent }).then(response => response.text()) })
  t.equal(await body, 'done')
})
