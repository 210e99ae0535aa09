/**
 * Lazy thenables: query builders that run their query once per call of `then`. Fastify calls `then` once; the plugin
 * never does. If a client leaves while its handler runs, the plugin follows the handler, and must not make it run
 * twice.
 */
import { drizzle } from 'drizzle-orm/node-postgres'
import { pgTable, text } from 'drizzle-orm/pg-core'
import type { FastifyInstance, FastifyReply } from 'fastify'
import knex from 'knex'
import { Model } from 'objection'
import PLazy = require('p-lazy')
import pg from 'pg'
import postgres = require('postgres')
import t, { type Test } from 'tap'
import { createDeferred } from '../../lib/util/deferred'
import { abort, connect, eventually, fetchOnce, post } from '../helpers/client'
import { serve } from '../helpers/serve'
import { findServer, hasPostgres, startPostgres, unless } from '../helpers/services'

const requests = 20

/** The work of a handler: `started` counts its runs, `gate` holds it open. */
interface Work {
  started: number
  readonly gate: Promise<void>
}

async function run (work: Work): Promise<string> {
  work.started++
  await work.gate
  return 'done'
}

class LazyPromise extends Promise<unknown> {
  work: Work | null = null
  static override get [Symbol.species] (): PromiseConstructor { return Promise }
  override then<A, B> (onFulfilled?: ((value: unknown) => A | PromiseLike<A>) | null, onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<A | B> {
    return run(this.work!).then(onFulfilled, onRejected)
  }
}

/** Values that a handler can return and that run their work when `then` is called. */
const thenables: Record<string, (work: Work) => unknown> = {
  'an object with a method `then`': work => ({ then: (...args: Parameters<Promise<string>['then']>) => run(work).then(...args) }),
  'a function with a method `then`': work => Object.assign(() => {}, { then: (...args: Parameters<Promise<string>['then']>) => run(work).then(...args) }),
  'a frozen object': work => Object.freeze({ then: (...args: Parameters<Promise<string>['then']>) => run(work).then(...args) }),
  'a proxy': work => new Proxy({}, { get: (_target, name) => name === 'then' ? (...args: Parameters<Promise<string>['then']>) => run(work).then(...args) : undefined }),
  'a thenable that resolves to nothing': work => ({ then: (...args: Parameters<Promise<undefined>['then']>) => run(work).then(() => undefined).then(...args) }),
  'a thenable that rejects': work => ({ then: (...args: Parameters<Promise<string>['then']>) => run(work).then(() => { throw new Error('no') }).then(...args) }),
  'a subclass of Promise with a `then` of its own': work => Object.assign(new LazyPromise(resolve => resolve(undefined)), { work }),
  'a native Promise with a `then` of its own': work => Object.assign(Promise.resolve(), { then: (...args: Parameters<Promise<string>['then']>) => run(work).then(...args) }),
  'p-lazy': work => new PLazy(resolve => { void run(work).then(resolve) }),
  'a native Promise': work => run(work)
}

/** Clients that post, and leave as soon as their handlers run. */
async function postAndLeave (app: FastifyInstance, started: () => number): Promise<void> {
  let left = 0
  app.server.on('connection', socket => { socket.once('close', () => { left++ }) })
  for (let count = 1; count <= requests; count++) {
    const client = await connect(app)
    client.send(post('/orders', 'x'))
    await eventually(() => started() >= count, started)
    abort(client.socket)
    await eventually(() => left === count, () => left)
  }
}

for (const [name, create] of Object.entries(thenables)) {
  t.test(`${name} runs once for each request whose client leaves, and counts until it settles`, async t => {
    const gate = createDeferred<void>()
    const work: Work = { started: 0, gate: gate.promise }
    const { app } = await serve(t, {
      routes: app => { app.post('/orders', () => create(work)) }
    })
    await postAndLeave(app, () => work.started)
    t.equal(app.shutdownState.activeRequests, requests, 'a handler that runs is in flight, with or without its client')
    gate.resolve()
    await eventually(() => app.shutdownState.activeRequests === 0, () => app.shutdownState)
    t.equal(work.started, requests)
    t.match(app.shutdownState.stats, { received: requests, aborted: requests, completed: 0 })
  })
}

/** What another plugin, which has wrapped the handler, may call on what the handler returned. */
const wrappers: Record<string, (returned: Promise<unknown>) => unknown> = {
  'then(onFulfilled)': returned => returned.then(value => value),
  'then(undefined, onRejected)': returned => returned.then(undefined, error => { throw error }),
  'catch()': returned => returned.catch(error => { throw error }),
  'finally()': returned => returned.finally(() => {}),
  await: async returned => await returned,
  'then() with a listener that throws': returned => returned.then(() => { throw new Error('no') }, () => { throw new Error('no') })
}

for (const [call, wrap] of Object.entries(wrappers)) {
  t.test(`a handler that another plugin has wrapped with ${call} runs once, and its value or error is the answer`, async t => {
    const gate = createDeferred<void>()
    const work: Work = { started: 0, gate: gate.promise }
    const { app } = await serve(t, {
      routes: app => {
        app.addHook('onRoute', route => {
          const { handler } = route
          route.handler = function (request, reply) { return wrap(handler.call(this, request, reply) as Promise<unknown>) as undefined }
        })
        app.post('/orders', () => thenables['an object with a method `then`']!(work))
        app.post('/fails', () => thenables['a thenable that rejects']!(work))
      }
    })
    await postAndLeave(app, () => work.started)
    gate.resolve()
    await eventually(() => app.shutdownState.activeRequests === 0, () => app.shutdownState)
    t.equal(work.started, requests)
    t.match(await fetchOnce(app, post('/orders', 'x')), call.includes('throws') ? { status: 500 } : { status: 200, body: 'done' })
    t.match(await fetchOnce(app, post('/fails', 'x')), { status: 500, body: /"message":"no"/ })
  })
}

t.test("Fastify's reply, returned by a handler, is a thenable whose `then` only Fastify calls", async t => {
  const gate = createDeferred<void>()
  let calls = 0
  const watch = (reply: FastifyReply): FastifyReply => {
    const { then } = reply
    const counted: typeof then = (...args) => {
      calls++
      return then.apply(reply, args)
    }
    return Object.assign(reply, { then: counted })
  }
  const { app } = await serve(t, {
    routes: app => {
      app.post('/orders', (_request, reply) => {
        void gate.promise.then(() => { reply.send('done') })
        return watch(reply)
      })
    }
  })
  const client = await connect(app)
  client.send(post('/orders', 'x'))
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  abort(client.socket)
  await eventually(() => calls === 1, () => calls)
  gate.resolve()
  await eventually(() => app.shutdownState.activeRequests === 0, () => app.shutdownState)
  t.equal(calls, 1)
})

t.test('with a database', { ...unless('postgres', hasPostgres()), timeout: 60_000 }, async t => {
  const own = await startPostgres()
  t.teardown(() => own.stop())
  const server = await findServer('postgres') ?? own
  const connection = { host: server.host, port: server.port, user: server.user || 'postgres', password: server.password ?? '', database: 'postgres' }
  const admin = new pg.Client(connection)
  await admin.connect()
  t.teardown(() => admin.end())

  /** Sends orders from clients that leave while the insert runs, or that stay. @returns the rows that were written */
  async function rowsAfter (t: Test, library: string, leave: boolean, insert: (app: FastifyInstance, table: string) => () => unknown): Promise<number> {
    const table = `orders_${library.replace(/\W/g, '')}_${process.pid}_${leave ? 'left' : 'stayed'}`
    await admin.query(`create table ${table} (item text default pg_sleep(0.02)::text)`)
    t.teardown(() => admin.query(`drop table ${table}`))
    let started = 0
    const { app } = await serve(t, {
      routes: app => {
        const handler = insert(app, table)
        app.post('/orders', () => {
          started++
          return handler()
        })
      }
    })
    if (leave) {
      await postAndLeave(app, () => started)
    } else {
      const client = await connect(app)
      for (let count = 0; count < requests; count++) {
        client.send(post('/orders', 'x'))
        t.equal((await client.answer()).status, 200)
      }
    }
    await eventually(() => app.shutdownState.activeRequests === 0, () => app.shutdownState)
    t.equal((await app.shutdown.start()).outcome, 'clean')
    const { rows: [row] } = await admin.query(`select count(*)::int as n from ${table}`)
    return row.n
  }

  const libraries: Record<string, (app: FastifyInstance, table: string) => () => unknown> = {
    knex (app, table) {
      const db = knex({ client: 'pg', connection })
      app.addHook('onClose', async () => { await db.destroy() })
      return () => db(table).insert({})
    },
    'knex, a raw query' (app, table) {
      const db = knex({ client: 'pg', connection })
      app.addHook('onClose', async () => { await db.destroy() })
      return () => db.raw(`insert into ${table} default values`)
    },
    drizzle (app, table) {
      const pool = new pg.Pool(connection)
      app.addHook('onClose', async () => { await pool.end() })
      const db = drizzle(pool)
      const orders = pgTable(table, { item: text('item') })
      return () => db.insert(orders).values({ item: 'x' })
    },
    objection (app, table) {
      const db = knex({ client: 'pg', connection })
      app.addHook('onClose', async () => { await db.destroy() })
      class Order extends Model {
        static override get tableName (): string { return table }
        static override get idColumn (): string { return 'item' }
      }
      Order.knex(db)
      return () => Order.query().insert({})
    },
    'postgres.js' (app, table) {
      const sql = postgres({ ...connection, onnotice: () => {} })
      app.addHook('onClose', async () => { await sql.end() })
      return () => sql`insert into ${sql(table)} default values`
    }
  }

  for (const [library, insert] of Object.entries(libraries)) {
    for (const leave of [true, false]) {
      await t.test(`${library} writes one row for each order whose client ${leave ? 'leaves' : 'stays'}`, async t => {
        t.equal(await rowsAfter(t, library, leave, insert), requests)
      })
    }
  }
})
