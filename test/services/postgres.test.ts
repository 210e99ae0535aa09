/** pg's Pool and Client as resources, with a PostgreSQL that is healthy, busy, frozen or dead. */
import { once } from 'node:events'
import fastifyPostgres from '@fastify/postgres'
import pg from 'pg'
import t from 'tap'
import { pgPool } from '../../lib/resources/adapters/index'
import { now, sleep } from '../../lib/util/time'
import { close, inTime, resourceContract, state } from '../helpers/resource-contract'
import type { OpenedOnOwnServer } from '../helpers/resource-contract'
import { fetchOnce, get } from '../helpers/client'
import { serve } from '../helpers/serve'
import { findServer, hasPostgres, startPostgres, startProxy, unless } from '../helpers/services'
import type { Server } from '../helpers/services'

const user = 'postgres'
const slow = "select 'done' as word from pg_sleep(0.3)"

// Replaced if the server belongs to the test.
const unharmed = { freeze: () => {}, thaw: () => {}, kill: async () => {}, stop: async () => {} }

function config ({ host, port }: Server): pg.PoolConfig {
  return { host, port, user, database: 'postgres', application_name: `shutdown-test-${process.pid}` }
}

t.test('against PostgreSQL', { ...unless('postgres', hasPostgres()), timeout: 60_000 }, async t => {
  const own = await startPostgres()
  t.teardown(() => own.stop())
  const server = await findServer('postgres') ?? own

  const openPool = async (at: Server): Promise<OpenedOnOwnServer> => {
    const pool = new pg.Pool(config(at))
    await pool.query('select 1')
    return {
      client: pool,
      work: async () => {
        // One connection is busy, a second one is idle.
        const result = pool.query(slow).then(({ rows }) => rows[0]?.word)
        await pool.query('select 1')
        return { result }
      },
      isClosed: () => pool.ended,
      end: () => pool.end(),
      ...unharmed
    }
  }
  const openClient = async (at: Server): Promise<OpenedOnOwnServer> => {
    const client = new pg.Client(config(at))
    await client.connect()
    return {
      client,
      work: async () => {
        const first = client.query('select 1')
        const result = client.query(slow).then(({ rows }) => rows[0]?.word)
        await first
        return { result }
      },
      isClosed: () => (client as { readonly _ended?: boolean })._ended === true,
      end: () => client.end(),
      ...unharmed
    }
  }
  for (const [name, open] of [['pg Pool', openPool], ['pg Client', openClient]] as const) {
    await resourceContract(t, {
      name,
      open: () => open(server),
      openOnOwnServer: async () => {
        const own = await startPostgres()
        return { ...await open(own), ...own }
      }
    })
  }

  t.test('queued queries finish before the pool ends', async t => {
    const pool = new pg.Pool({ ...config(server), max: 1 })
    const resource = pgPool(pool)
    const words = Array.from({ length: 5 }, (_, i) => pool.query('select $1::int as n from pg_sleep(0.02)', [i]).then(({ rows }) => rows[0].n))
    t.equal(pool.waitingCount, 4)
    await close(resource)
    t.same(await inTime(Promise.all(words)), [0, 1, 2, 3, 4])
    t.equal(pool.ended, true)
    t.same(resource.detail?.(), { leakedClients: 0 })
  })

  t.test('without the adapter pg-pool never settles the queued queries', async t => {
    const pool = new pg.Pool({ ...config(server), max: 1 })
    pool.query('select pg_sleep(0.02)').catch(() => {})
    const waiting = pool.query('select 1')
    const removed = once(pool, 'remove')
    pool.end().catch(() => {})
    await removed
    t.equal(await state(waiting, 100), 'pending')
  })

  t.test('a transaction in flight may take a second client while the pool closes, and commits', async t => {
    const pool = new pg.Pool(config(server))
    const resource = pgPool(pool)
    await pool.query('create table if not exists shutdown_commits (n int)')
    const client = await pool.connect()
    await client.query('begin')
    await client.query('insert into shutdown_commits values (1)')
    const closing = close(resource)
    t.equal(await state(closing, 50), 'pending')
    await pool.query('select 1')
    await client.query('commit')
    client.release()
    await inTime(closing)
    const after = new pg.Client(config(server))
    await after.connect()
    t.same((await after.query('select count(*)::int as n from shutdown_commits')).rows, [{ n: 1 }])
    await after.query('drop table shutdown_commits')
    await after.end()
  })

  t.test('force rolls back a transaction in flight', async t => {
    const pool = new pg.Pool(config(server))
    const resource = pgPool(pool)
    await pool.query('create table if not exists shutdown_rollbacks (n int)')
    const client = await pool.connect()
    await client.query('begin')
    await client.query('insert into shutdown_rollbacks values (1)')
    const closing = close(resource)
    await inTime(resource.force?.())
    await inTime(closing)
    await t.rejects(client.query('commit'))
    client.release()
    const after = new pg.Client(config(server))
    await after.connect()
    t.same((await after.query('select count(*)::int as n from shutdown_rollbacks')).rows, [{ n: 0 }])
    await after.query('drop table shutdown_rollbacks')
    await after.end()
  })

  t.test('force ends the clients that are not released, and the detail has their count and the stacks that took them', async t => {
    const pool = new pg.Pool(config(server))
    const resource = pgPool(pool, { detail: true })
    const forgetful = async (): Promise<pg.PoolClient> => await pool.connect()
    await forgetful()
    const first = await forgetful()
    const borrowed = await pool.connect()
    borrowed.release()
    await new Promise<void>((resolve, reject) => {
      pool.connect((error, _client, release) => { if (error) reject(error); else { release(); resolve() } })
    })
    const closing = close(resource)
    t.equal(await state(closing, 100), 'pending', 'the pool waits for them')
    await inTime(resource.force?.())
    await inTime(closing)
    const detail = resource.detail?.() as { leakedClients: number, takenBy: string[] }
    t.equal(detail.leakedClients, 2)
    t.equal(detail.takenBy.length, 2)
    for (const stack of detail.takenBy) t.match(stack, /forgetful/)
    t.doesNotThrow(() => first.release(), 'a late release is not an error')
    await t.rejects(pool.query('select 1'), 'the pool accepts no query')
  })

  t.test('force rejects queued queries', async t => {
    const pool = new pg.Pool({ ...config(server), max: 1 })
    const resource = pgPool(pool)
    await pool.connect()
    const queued = [pool.query('select 1'), pool.query('select 2'), pool.connect()].map(promise => promise.then(() => 'served', () => 'rejected'))
    const closing = close(resource)
    await inTime(resource.force?.())
    await inTime(closing)
    t.same(await inTime(Promise.all(queued)), ['rejected', 'rejected', 'rejected'])
  })

  t.test('force ends a connection that the server never accepts', async t => {
    const hole = await startPostgres()
    t.teardown(() => hole.stop())
    const pool = new pg.Pool(config(hole))
    const resource = pgPool(pool)
    hole.freeze()
    const query = pool.query('select 1').then(() => 'served', () => 'rejected')
    const closing = close(resource)
    t.equal(await state(closing, 100), 'pending')
    await inTime(resource.force?.())
    await inTime(closing)
    t.equal(await inTime(query), 'rejected')
    hole.thaw()
  })

  t.test('a frozen server does not delay an idle pool', async t => {
    const frozen = await startPostgres()
    t.teardown(async () => { frozen.thaw(); await frozen.stop() })
    const pool = new pg.Pool(config(frozen))
    const clients: Array<pg.PoolClient & { readonly connection?: { readonly stream: { readonly destroyed: boolean } } }> = []
    pool.on('connect', client => clients.push(client))
    const resource = pgPool(pool)
    await pool.query('select 1')
    frozen.freeze()
    await inTime(close(resource))
    t.equal(pool.ended, true)
    t.same(clients.map(client => client.connection?.stream.destroyed), [true], 'its socket is destroyed')
  })

  t.test('a server that dies while clients are checked out does not end the process', async t => {
    const mortal = await startPostgres()
    t.teardown(() => mortal.stop())
    const pool = new pg.Pool(config(mortal))
    const resource = pgPool(pool)
    const seen: unknown[] = []
    const crash = (error: unknown): void => { seen.push(error) }
    process.on('uncaughtException', crash)
    t.teardown(() => process.removeListener('uncaughtException', crash))
    const idleInHand = await pool.connect()
    const atWork = await pool.connect()
    const query = atWork.query('select pg_sleep(10)').then(() => 'served', () => 'rejected')
    const closing = close(resource)
    // Not events.once(), which listens to 'error' as well.
    const lost = Promise.all([idleInHand, atWork].map(client => new Promise<void>(resolve => { client.once('end', resolve) })))
    await mortal.kill()
    await lost
    t.equal(await query, 'rejected')
    idleInHand.release()
    atWork.release()
    await inTime(closing)
    t.same(seen, [])
  })

  t.test('the app may end an adopted pool too, before, during and after the shutdown', async t => {
    for (const first of ['app', 'shutdown'] as const) {
      const { app, report } = await serve(t, { routes: async app => { await app.register(fastifyPostgres, config(server)) } })
      const { pool } = app.pg
      await pool.query('select 1')
      const query = pool.query(slow)
      const ending = first === 'app' ? pool.end() : app.close()
      await pool.end()
      await ending
      await app.close()
      await new Promise<void>((resolve, reject) => {
        (pool as unknown as { end (callback: (error?: Error) => void): void }).end(error => { if (error) reject(error); else resolve() })
      })
      t.equal((await query).rows[0].word, 'done')
      t.equal(pool.ended, true)
      t.match(await report, { outcome: 'clean' })
    }
  })

  t.test('after close the server has no session of the pool', async t => {
    const pool = new pg.Pool({ ...config(server), application_name: `shutdown-test-gone-${process.pid}` })
    const resource = pgPool(pool)
    await Promise.all([pool.query('select pg_sleep(0.01)'), pool.query('select pg_sleep(0.01)')])
    await close(resource)
    const after = new pg.Client(config(server))
    await after.connect()
    const { rows } = await after.query('select count(*)::int as n from pg_stat_activity where application_name = $1', [`shutdown-test-gone-${process.pid}`])
    t.same(rows, [{ n: 0 }])
    await after.end()
  })

  t.test('readiness returns after the network to PostgreSQL was silent, though its frozen queries never settle', async t => {
    const proxy = await startProxy(server)
    const { app } = await serve(t, {
      options: { probes: { checks: { database: { check: () => app.pg.query('select 1'), timeout: 500 } } } },
      routes: async app => {
        await app.register(fastifyPostgres, { ...config(server), host: proxy.host, port: proxy.port })
      }
    })
    // Runs before the app closes, and ends the frozen queries.
    t.teardown(() => proxy.stop())
    const readiness = async (): Promise<number> => (await fetchOnce(app, get('/health/ready'))).status
    /** Probes until the answer is `status`, at most 10 s. @returns how long that took, in milliseconds */
    const until = async (status: number): Promise<number> => {
      const began = now()
      // A probe has no event: it comes at an interval, as a load balancer's does.
      while (await readiness() !== status && now() - began < 10_000) await sleep(100)
      return now() - began
    }
    t.equal(await readiness(), 200)

    // A short outage leaves one frozen query, a longer one leaves more than the two runs that count.
    for (const outage of [0, 2_500]) {
      proxy.freeze()
      await until(503)
      // The length of the outage is the thing under test.
      for (const end = now() + outage; now() < end; await sleep(100)) t.equal(await readiness(), 503)
      proxy.acceptNew()
      const took = await until(200)
      t.ok(took < 3_500, `ready again after ${took} ms`)
      t.equal((await app.pg.query('select 1')).rowCount, 1)
    }
    t.ok(app.pg.pool.totalCount - app.pg.pool.idleCount >= 3, 'the frozen queries are still pending')
  })
})
