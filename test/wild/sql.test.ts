/**
 * Query builders, ORMs and job queues on PostgreSQL: knex, Kysely, Drizzle, TypeORM, Sequelize, postgres.js, pg-boss, and
 * Drizzle, knex, TypeORM and Sequelize on MariaDB. A proxy makes the server frozen or dead.
 */
import { drizzle } from 'drizzle-orm/node-postgres'
import { drizzle as drizzleMysql } from 'drizzle-orm/mysql2'
import { drizzle as drizzlePostgresJs } from 'drizzle-orm/postgres-js'
import { sql as drizzleSql } from 'drizzle-orm'
import knex, { type Knex } from 'knex'
import { Kysely, PostgresDialect, sql as kyselySql } from 'kysely'
import mysql from 'mysql2/promise'
import pg from 'pg'
import PgBoss from 'pg-boss'
import postgres from 'postgres'
import { Sequelize } from 'sequelize'
import t, { type Test } from 'tap'
import { DataSource } from 'typeorm'
import { adapterFor } from '../../lib/resources/adapters/index'
import { teardown } from '../../lib/resources/teardown'
import { turn } from '../../lib/util/time'
import { close, inTime, resourceContract, state } from '../helpers/resource-contract'
import type { Opened, OpenedOnOwnServer } from '../helpers/resource-contract'
import { findServer, hasPostgres, startPostgres, startProxy, unless, type Server } from '../helpers/services'

// Replaced if a proxy stands in front of the server.
const unharmed = { freeze: () => {}, thaw: () => {}, kill: async () => {}, stop: async () => {} }
const slow = "select 'done' as word from pg_sleep(0.3)"
const slowMysql = "select 'done' as word, sleep(0.3)"
const pgUrl = ({ host, port }: Server): string => `postgres://postgres@${host}:${port}/postgres`
const mysqlConfig = ({ host, port, user = 'root', password = '' }: Server): { host: string, port: number, user: string, password: string } => ({ host, port, user, password })
const word = (rows: any): unknown => rows[0]?.word // any: each library has its own type of rows

type Open = (at: Server) => Promise<Opened>

async function contract (t: Test, name: string, server: Server, open: Open, options: { readonly canFreeze?: boolean } = {}): Promise<void> {
  const behind = async (): Promise<OpenedOnOwnServer> => {
    const proxy = await startProxy(server)
    return { ...await open(proxy), ...proxy }
  }
  await resourceContract(t, { name, open: () => open(server), ...(options.canFreeze === false ? {} : { openOnOwnServer: behind }) })
  if (options.canFreeze !== false) await idleContract(t, name, server, open)
}

/** An idle client of a server that is frozen or dead closes quickly, and nothing is forced. */
async function idleContract (t: Test, name: string, server: Server, open: Open): Promise<void> {
  for (const fault of ['freeze', 'kill'] as const) {
    await t.test(`${name}: an idle client closes quickly and cleanly after ${fault}() of its server`, async t => {
      const proxy = await startProxy(server)
      t.teardown(async () => { proxy.thaw(); await proxy.stop() })
      const opened = await open(proxy)
      const resource = opened.resource ?? adapterFor(opened.client)
      await resource.pause?.()
      await proxy[fault]()
      const { outcome, durationMs } = await teardown({ [name]: resource })
      t.equal(outcome, 'clean')
      t.ok(durationMs < 1_500, `${durationMs} ms`)
      t.equal(opened.isClosed(), true)
    })
  }
}

/** Begins a slow query, and waits until it is under way. */
const begin = async (query: (text: string) => Promise<unknown>, text: string): Promise<{ result: Promise<unknown> }> => {
  const result = query(text)
  await query('select 1')
  return { result }
}

const openKnex = (config: (at: Server) => Knex.Config, text: string): Open => async at => {
  const db = knex({ pool: { min: 0, max: 5 }, ...config(at) })
  const query = async (text: string): Promise<unknown> => {
    const answer = await db.raw(text)
    return word(answer.rows ?? answer[0])
  }
  await query('select 1')
  return { client: db, work: () => begin(query, text), isClosed: () => db.client.pool === undefined || db.client.pool.destroyed, end: () => db.destroy(), ...unharmed }
}

const openTypeOrm = (config: (at: Server) => object, text: string): Open => async at => {
  const dataSource = new DataSource(config(at) as ConstructorParameters<typeof DataSource>[0])
  const resource = adapterFor(dataSource)
  await dataSource.initialize()
  const driver = dataSource.driver as unknown as { master?: { ending: boolean }, pool?: { _closed: boolean } }
  const { master, pool } = driver
  return {
    client: dataSource,
    resource,
    work: () => begin(async text => word(await dataSource.query(text)), text),
    isClosed: () => master?.ending ?? pool!._closed,
    end: () => dataSource.destroy()
  }
}

const openSequelize = (dialect: 'postgres' | 'mysql', text: string): Open => async at => {
  const config = dialect === 'postgres' ? { username: 'postgres', database: 'postgres' } : { username: at.user ?? 'root', password: at.password ?? '' }
  const db = new Sequelize({ dialect, host: at.host, port: at.port, logging: false, ...config, retry: { max: 0 } })
  let closed = false
  const own = db.close.bind(db)
  db.close = async () => { closed = true; await own() }
  const query = async (text: string): Promise<unknown> => word((await db.query(text))[0])
  await query('select 1')
  return { client: db, work: () => begin(query, text), isClosed: () => closed, end: () => db.close() }
}

t.test('on PostgreSQL', { ...unless('postgres', hasPostgres()), timeout: 90_000 }, async t => {
  let server = await findServer('postgres')
  if (server === undefined) {
    const own = await startPostgres()
    t.teardown(() => own.stop())
    server = own
  }
  const at = server

  await contract(t, 'knex', at, openKnex(at => ({ client: 'pg', connection: pgUrl(at) }), slow))
  await contract(t, 'TypeORM', at, openTypeOrm(at => ({ type: 'postgres', url: pgUrl(at) }), slow))
  await contract(t, 'Sequelize', at, openSequelize('postgres', slow))
  await contract(t, 'Drizzle on pg', at, async at => {
    const pool = new pg.Pool({ connectionString: pgUrl(at) })
    const db = drizzle(pool)
    const query = async (text: string): Promise<unknown> => word((await db.execute(drizzleSql.raw(text))).rows)
    await query('select 1')
    return { client: db, work: () => begin(query, slow), isClosed: () => pool.ended, end: () => pool.end() }
  })
  // It has no force, so its part of the contract ends with a healthy server.
  const openKysely: Open = async at => {
    const pool = new pg.Pool({ connectionString: pgUrl(at), max: 2 })
    pool.on('error', () => {}) // The app's own task: Kysely does not give access to its pool.
    const db = new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) })
    const resource = adapterFor(db)
    const query = async (text: string): Promise<unknown> => word((await kyselySql.raw(text).execute(db)).rows)
    await query('select 1')
    return { client: db, resource: { ...resource, force: () => pool.end() }, work: () => begin(query, slow), isClosed: () => pool.ending, end: () => db.destroy() }
  }
  t.test('Kysely: close waits for the running and the queued queries and for a transaction', async t => {
    const opened = await openKysely(at)
    t.equal(adapterFor(opened.client).force, undefined, 'Kysely has no force')
    const db = opened.client as Kysely<unknown>
    const seen: unknown[] = []
    const queued = Array.from({ length: 6 }, (_, n) => kyselySql.raw(`select ${n} as n from pg_sleep(0.05)`).execute(db).then(({ rows }: any) => seen.push(rows[0].n)))
    const transaction = db.transaction().execute(async trx => {
      await kyselySql`select pg_sleep(0.2)`.execute(trx)
      return word((await kyselySql`select 'committed' as word`.execute(trx)).rows)
    })
    await inTime(close(adapterFor(db)))
    t.equal(seen.length, 6)
    t.equal(await transaction, 'committed')
    await Promise.all(queued)
    await close(adapterFor(db))
    t.equal(opened.isClosed(), true)
  })
  await idleContract(t, 'Kysely', at, openKysely)

  await contract(t, 'postgres.js', at, async at => {
    const sql = postgres(pgUrl(at), { max: 3, connect_timeout: 2, onnotice: () => {} })
    let closed = false
    const resource = adapterFor(sql)
    const watched = { ...resource, close: async (signal: AbortSignal) => { await resource.close?.(signal); closed = true }, force: async () => { await resource.force?.(); closed = true } }
    await sql`select 1`
    const query = async (text: string): Promise<unknown> => word(await sql.unsafe(text))
    return { client: sql, resource: watched, work: () => begin(query, slow), isClosed: () => closed, end: async () => { await sql.end(); closed = true } }
  }, { canFreeze: false })

  t.test('postgres.js: queries that wait behind others finish before the client ends', async t => {
    for (const [max, count] of [[1, 8], [3, 60]] as const) {
      const sql = postgres(pgUrl(at), { max, max_pipeline: 4 } as object)
      const resource = adapterFor(sql)
      const answers = Array.from({ length: count }, (_, n) => sql`select ${n}::int as n from pg_sleep(0.01)`.then(rows => rows[0]!.n))
      await inTime(close(resource))
      t.same(await inTime(Promise.all(answers)), Array.from({ length: count }, (_, n) => n))
    }
  })

  t.test('postgres.js: force rejects the running and the queued queries, with a server that is frozen or dead', async t => {
    for (const fault of ['freeze', 'kill'] as const) {
      const proxy = await startProxy(at)
      t.teardown(async () => { proxy.thaw(); await proxy.stop() })
      const sql = postgres(pgUrl(proxy), { max: 1, connect_timeout: 1 })
      const resource = adapterFor(sql)
      await sql`select 1`
      const running = [sql`select pg_sleep(5)`, sql`select 1`].map(query => query.then(() => 'served', () => 'rejected'))
      await turn()
      await proxy[fault]()
      const closing = close(resource)
      if (await state(closing, 150) === 'pending') await inTime(resource.force?.())
      await inTime(closing)
      t.same(await inTime(Promise.all(running)), ['rejected', 'rejected'])
    }
  })

  t.test('Drizzle on postgres.js closes it, and a Drizzle on an unknown client is refused', async t => {
    const sql = postgres(pgUrl(at))
    const db = drizzlePostgresJs(sql)
    await db.execute(drizzleSql`select 1`)
    await inTime(close(adapterFor(db)))
    await t.rejects(Promise.resolve(sql`select 1`), { code: 'CONNECTION_ENDED' })
    const unknown = Object.assign(drizzle(new pg.Pool()), { $client: { end () {} } })
    t.throws(() => adapterFor(unknown), { code: 'FST_ERR_SHUTDOWN_CLIENT' })
  })

  t.test('queued queries finish: knex, TypeORM and Sequelize with one connection', async t => {
    const clients: [string, object, (text: string) => Promise<unknown>][] = []
    const db = knex({ client: 'pg', connection: pgUrl(at), pool: { min: 0, max: 1 } })
    clients.push(['knex', db, async text => (await db.raw(text)).rows])
    const dataSource = new DataSource({ type: 'postgres', url: pgUrl(at), poolSize: 1 })
    clients.push(['TypeORM', dataSource, text => dataSource.query(text)])
    const orm = new Sequelize(pgUrl(at), { logging: false, pool: { max: 1 } })
    clients.push(['Sequelize', orm, async text => (await orm.query(text))[0]])
    for (const [name, client, query] of clients) {
      const resource = adapterFor(client)
      if (client === dataSource) await dataSource.initialize()
      const answers = [1, 2, 3].map(async n => ((await query(`select ${n} as n from pg_sleep(0.05)`)) as { n: number }[])[0]!.n)
      await inTime(close(resource))
      t.same(await inTime(Promise.all(answers)), [1, 2, 3], name)
    }
  })

  t.test('TypeORM: a transaction in flight commits before the pool ends', async t => {
    const dataSource = new DataSource({ type: 'postgres', url: pgUrl(at) })
    const resource = adapterFor(dataSource)
    await dataSource.initialize()
    const transaction = dataSource.transaction(async manager => {
      await manager.query('select pg_sleep(0.1)')
      return word(await manager.query("select 'committed' as word"))
    })
    await inTime(close(resource))
    t.equal(await transaction, 'committed')
    await inTime(close(adapterFor(new DataSource({ type: 'postgres' }))), 1_000)
  })

  t.test('a transaction of knex and one of Kysely are refused: they end with their commit', async t => {
    const db = knex({ client: 'pg', connection: pgUrl(at) })
    await db.transaction(async trx => { t.throws(() => adapterFor(trx), { code: 'FST_ERR_SHUTDOWN_CLIENT' }) })
    await close(adapterFor(db))
  })

  t.test('pg-boss', async t => {
    const schema = `shutdown_${process.pid}`
    const start = async (server: Server): Promise<{ boss: PgBoss, resource: ReturnType<typeof adapterFor> }> => {
      const boss = new PgBoss({ connectionString: pgUrl(server), schema, supervise: false, schedule: false })
      boss.on('error', () => {})
      const resource = adapterFor(boss)
      await boss.start()
      return { boss, resource }
    }
    const drop = async (): Promise<void> => {
      const client = new pg.Client(pgUrl(at))
      await client.connect()
      await client.query(`drop schema if exists ${schema} cascade`)
      await client.end()
    }
    t.teardown(drop)
    const poolOf = (boss: PgBoss): pg.Pool => (boss as unknown as { getDb (): { pool: pg.Pool } }).getDb().pool

    await t.test('close waits for the running job, which completes, and takes no other', async t => {
      const { boss, resource } = await start(at)
      await boss.createQueue('jobs')
      const seen: string[] = []
      const taken = new Promise<void>(resolve => {
        boss.work('jobs', { pollingIntervalSeconds: 0.5 }, async () => { seen.push('begun'); resolve(); await new Promise(resolve => setTimeout(resolve, 200)); seen.push('done') }).catch(() => {})
      })
      const id = await boss.send('jobs', {})
      await taken
      const late = boss.send('jobs', { second: true })
      await resource.pause?.()
      await inTime(close(resource))
      t.same(seen, ['begun', 'done'])
      t.equal(poolOf(boss).ended, true)
      const other = await start(at)
      t.equal((await other.boss.getJobById('jobs', id!))?.state, 'completed')
      t.equal((await other.boss.getJobById('jobs', (await late)!))?.state, 'created', 'the last send has arrived')
      await inTime(close(other.resource))
    })

    await t.test('force returns the running job to its queue', async t => {
      const { boss, resource } = await start(at)
      await boss.createQueue('stuck')
      const taken = new Promise<void>(resolve => {
        boss.work('stuck', { pollingIntervalSeconds: 0.5 }, async () => { resolve(); await new Promise(() => {}) }).catch(() => {})
      })
      const id = await boss.send('stuck', {}, { retryLimit: 1, expireInSeconds: 3 })
      await taken
      await resource.pause?.()
      const closing = close(resource)
      t.equal(await state(closing, 150), 'pending', 'close waits for the job')
      await inTime(resource.force?.())
      await inTime(closing)
      const other = await start(at)
      t.equal((await other.boss.getJobById('stuck', id!))?.state, 'retry')
      await inTime(close(other.resource))
    })

    await t.test('force ends one with a running job whose server is frozen', async t => {
      const proxy = await startProxy(at)
      t.teardown(async () => { proxy.thaw(); await proxy.stop() })
      const { boss, resource } = await start(proxy)
      await boss.createQueue('frozen')
      const taken = new Promise<void>(resolve => {
        boss.work('frozen', { pollingIntervalSeconds: 0.5 }, async () => { resolve(); await new Promise(() => {}) }).catch(() => {})
      })
      await boss.send('frozen', {}, { expireInSeconds: 3 })
      await taken
      await resource.pause?.()
      proxy.freeze()
      const { resources } = await teardown({ boss: { ...resource, timeout: 2_000 } })
      t.equal(resources[0]!.outcome, 'forced')
      t.equal(poolOf(boss).ended, true)
    })

    await t.test('an idle one closes with a server that is frozen or dead, and one that its owner stops', async t => {
      for (const fault of ['freeze', 'kill'] as const) {
        const proxy = await startProxy(at)
        t.teardown(async () => { proxy.thaw(); await proxy.stop() })
        const { boss, resource } = await start(proxy)
        await proxy[fault]()
        await inTime(close(resource), 2_000)
        t.equal(poolOf(boss).ended, true)
      }
      const { boss, resource } = await start(at)
      boss.stop({ graceful: false }).catch(() => {})
      await inTime(close(resource))
      await inTime(close(resource))
      await inTime(close(adapterFor(new PgBoss(pgUrl(at)))), 1_000)
    })
  })
})

t.test('on MariaDB', async t => {
  const server = await findServer('mysql')
  await t.test('knex, TypeORM, Sequelize and Drizzle', { ...unless('mysql', server !== undefined), timeout: 60_000 }, async t => {
    if (server === undefined) return
    await contract(t, 'knex on mysql2', server, openKnex(at => ({ client: 'mysql2', connection: mysqlConfig(at) }), slowMysql))
    await contract(t, 'TypeORM on mysql2', server, openTypeOrm(at => ({ type: 'mysql', ...mysqlConfig(at), username: mysqlConfig(at).user }), slowMysql))
    await contract(t, 'Sequelize on mysql2', server, openSequelize('mysql', slowMysql))
    await contract(t, 'Drizzle on mysql2', server, async at => {
      const pool = mysql.createPool(mysqlConfig(at))
      const db = drizzleMysql({ client: pool })
      const query = async (text: string): Promise<unknown> => word((await db.execute(drizzleSql.raw(text)) as unknown as [object])[0])
      await query('select 1')
      return { client: db, work: () => begin(query, slowMysql), isClosed: () => (pool as unknown as { pool: { _closed: boolean } }).pool._closed, end: () => pool.end() }
    })
  })
})
