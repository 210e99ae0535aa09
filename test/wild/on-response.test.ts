/**
 * Hooks that write an access record to a database after the answer. The shutdown waits for them, and the
 * database closes after the last record.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import fp = require('fastify-plugin')
import t, { type Test } from 'tap'
import { sleep } from '../../lib/util/time'
import gracefulShutdown from '../../lib/index'
import type { ShutdownEvent, ShutdownOptions } from '../../types/index'
import { connect, eventually, fetchOnce, get } from '../helpers/client'
import { Fastify } from '../helpers/fastify'
import { entered, serve, type Served } from '../helpers/serve'

/** A database that needs 100 ms for each record, and counts those that it was too late for. */
class Database {
  records = 0
  lost = 0
  writing = 0
  open = true

  async write (): Promise<void> {
    this.writing++
    await sleep(100)
    this.writing--
    if (this.open) this.records++
    else this.lost++
  }

  close (): void { this.open = false }
}

type Hook = (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void) => unknown

/** Runs its work when `then` is called, as a query builder does. */
const lazy = (work: () => Promise<unknown>): PromiseLike<unknown> => ({ then: (...args) => work().then(...args) })

/** Ways to write a hook. */
const hooks: Record<string, (db: Database) => Hook> = {
  'an async function': db => async (_request, _reply) => { await db.write() },
  'a callback': db => (_request, _reply, done) => { void db.write().then(() => done()) },
  'a function that returns a promise': db => () => db.write(),
  'a function that returns a query builder': db => () => lazy(() => db.write()),
  'an async function that fails after its record' (db) {
    return async () => {
      await db.write()
      throw new Error('no')
    }
  },
  'a callback with an error': db => (_request, _reply, done) => { void db.write().then(() => done(new Error('no'))) }
}

/** Ways to add a hook to the route `/`. */
const places: Record<string, (app: FastifyInstance, hook: Hook) => unknown> = {
  'the root' (app, hook) {
    app.addHook('onResponse', hook as never)
    app.get('/', async () => 'ok')
  },
  'an encapsulated context': (app, hook) => app.register(async child => {
    child.addHook('onResponse', hook as never)
    child.get('/', async () => 'ok')
  }),
  'a plugin' (app, hook) {
    app.get('/', async () => 'ok')
    return app.register(fp(async child => { child.addHook('onResponse', hook as never) }, { name: 'access-log' }))
  },
  'a route': (app, hook) => app.get('/', { onResponse: hook as never }, async () => 'ok'),
  'a list of a route': (app, hook) => app.route({ method: ['GET', 'POST'], url: '/', onResponse: [async () => {}, hook as never], handler: async () => 'ok' }),
  'the onRoute hook of another plugin' (app, hook) {
    app.addHook('onRoute', (route: RouteOptions) => { route.onResponse = hook as never })
    app.get('/', async () => 'ok')
  },
  'the handler of unknown routes': (app, hook) => {
    app.addHook('onResponse', hook as never)
    app.setNotFoundHandler(async () => 'ok')
  }
}

async function service (
  t: Test, routes: (app: FastifyInstance, db: Database) => unknown, options: ShutdownOptions = {}, awaitRegister = true
): Promise<Served & { readonly db: Database }> {
  const db = new Database()
  const served = await serve(t, {
    awaitRegister,
    options: { resources: { db: { close: () => db.close() } }, ...options },
    routes: async app => { await routes(app, db) }
  })
  return { ...served, db }
}

for (const [kind, create] of Object.entries(hooks)) {
  t.test(`the database stays open until ${kind} in an onResponse hook is over`, async t => {
    const { app, db } = await service(t, (app, db) => places['the root']!(app, create(db)))
    t.match(await fetchOnce(app, get('/')), { status: 200, body: 'ok' })
    await eventually(() => db.writing === 1, () => db)
    t.equal(app.shutdownState.activeTasks, 0, 'a hook is not a task')
    const report = await app.shutdown.start()
    t.match(db, { records: 1, lost: 0, writing: 0 })
    t.match(report, { outcome: 'clean', exitCode: 0, tasks: [] })
  })
}

for (const [place, add] of Object.entries(places)) {
  t.test(`the database stays open until an onResponse hook of ${place} is over`, async t => {
    for (const [close, awaitRegister] of [['start', true], ['close', true], ['start', false]] as const) {
      const { app, db, report } = await service(t, (app, db) => add(app, hooks['an async function']!(db)), {}, awaitRegister)
      await fetchOnce(app, get('/'))
      await eventually(() => db.writing === 1, () => db)
      await (close === 'start' ? app.shutdown.start() : app.close())
      t.match(db, { records: 1, lost: 0, writing: 0 })
      t.equal((await report).outcome, 'clean')
    }
  })
}

t.test('two hooks of one request run one after the other, and the database stays open until the second is over', async t => {
  const { app, db } = await service(t, (app, db) => {
    app.addHook('onResponse', async () => { await db.write() })
    app.addHook('onResponse', (_request, _reply, done) => { void db.write().then(() => done()) })
    app.addHook('onResponse', async () => { await db.write() })
    app.get('/', async () => 'ok')
  })
  await fetchOnce(app, get('/'))
  t.equal((await app.shutdown.start()).outcome, 'clean')
  t.match(db, { records: 3, lost: 0 })
})

t.test('the database stays open for a hook that begins while draining: of an answer in flight, of a 503, and of inject', async t => {
  let release = (): void => {}
  const { app, db } = await service(t, (app, db) => {
    app.addHook('onResponse', async () => { await db.write() })
    app.get('/', async () => 'ok')
    app.get('/slow', async () => {
      await new Promise<void>(resolve => { release = resolve })
      return 'slow'
    })
  }, { newConnections: 'answer' })
  const client = await connect(app)
  client.send(get('/slow'))
  await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
  const closing = app.shutdown.start()
  await entered(app, 'draining')
  const [rejected, injected] = await Promise.all([fetchOnce(app, get('/')), app.inject('/')])
  t.match(rejected, { status: 503 })
  t.equal(injected.statusCode, 503)
  release()
  t.match(await client.answer(), { status: 200, body: 'slow' })
  t.match(await closing, { outcome: 'clean', requests: { completed: 1, rejected: 2 } })
  t.match(db, { records: 3, lost: 0, writing: 0 })
})

t.test('the database stays open for a hook of a client that has left: onRequestAbort', async t => {
  const kinds: Record<string, (app: FastifyInstance, db: Database) => unknown> = {
    'an async hook of the root' (app, db) { app.addHook('onRequestAbort', async _request => { await db.write() }) },
    'a callback of the root' (app, db) { app.addHook('onRequestAbort', (_request, done) => { void db.write().then(() => done()) }) },
    'a hook of a route': (app, db) => app.get('/other', { onRequestAbort: async () => { await db.write() } }, async () => await new Promise(() => {}))
  }
  for (const [kind, add] of Object.entries(kinds)) {
    const { app, db } = await service(t, (app, db) => {
      add(app, db)
      app.get('/', async () => await sleep(50))
    })
    const client = await connect(app)
    client.send(get(kind.endsWith('route') ? '/other' : '/'))
    await eventually(() => app.shutdownState.activeRequests === 1, () => app.shutdownState)
    client.socket.destroy()
    await eventually(() => db.writing === 1, () => db)
    if (kind.endsWith('route')) app.shutdown.cut(app.shutdownState.requests()[0]!.id)
    t.match(await app.shutdown.start(), { tasks: [] }, kind)
    t.match(db, { records: 1, lost: 0, writing: 0 }, kind)
  }
})

t.test('under traffic, every answer has its record', async t => {
  let answered = 0
  const { app, db } = await service(t, (app, db) => {
    app.addHook('onResponse', async () => { await db.write() })
    app.get('/', async () => {
      await sleep(5)
      return 'ok'
    })
  })
  const clients = Array.from({ length: 10 }, async () => {
    const client = await connect(app)
    for (let open = true; open;) {
      client.send(get('/'))
      const answer = await client.answer().catch(() => null)
      if (answer === null) return
      answered++
      open = answer.headers['connection'] !== 'close'
    }
  })
  await eventually(() => answered >= 50, () => answered)
  const report = await app.shutdown.start()
  await Promise.all(clients)
  t.equal(report.outcome, 'clean')
  t.equal(db.lost, 0)
  t.ok(db.records >= answered, `${db.records} records of ${answered} answers`)
})

t.test('a hook that never settles is abandoned after timeouts.tasks, and named', async t => {
  const stuck: Record<string, { readonly add: (app: FastifyInstance) => unknown, readonly name: string }> = {
    'an async hook of the root': { add: app => places['the root']!(app, async () => await new Promise(() => {})), name: 'onResponse hook of app' },
    'a callback of a plugin': { add: app => places['a plugin']!(app, (_request, _reply, _done) => {}), name: 'onResponse hook of access-log' },
    'a hook of a route': { add: app => places['a route']!(app, () => new Promise(() => {})), name: 'onResponse hook of GET /' },
    'a hook of an earlier route': { add: app => places['a route']!(app, () => new Promise(() => {})), name: 'onResponse hook of GET /' }
  }
  for (const [kind, { add, name }] of Object.entries(stuck)) {
    const events: ShutdownEvent[] = []
    const options: ShutdownOptions = {
      timeouts: { tasks: 1_100 },
      exporters: [{ name: 'test', start: ({ listen }) => { listen(event => { events.push(event) }) } }]
    }
    const { app, db } = await service(t, add, options, kind !== 'a hook of an earlier route')
    await fetchOnce(app, get('/'))
    await fetchOnce(app, get('/'))
    const report = await app.shutdown.start()
    t.match(report, { outcome: 'failed', exitCode: 1, tasks: [{ name, outcome: 'abandoned' }] }, kind)
    t.equal(report.tasks.length, 1, 'one result for each hook')
    t.ok(report.durationMs >= 1_099 && report.durationMs < 2_000, `took ${report.durationMs} ms`)
    t.notOk(db.open, 'the database closes')
    t.match(events.find(({ type }) => type === 'waiting'), { pending: [name] })
  }
})

t.test('a hook without a callback and without a promise is over when it returns', async t => {
  const { app } = await service(t, app => places['the root']!(app, (_request, _reply) => {}))
  await fetchOnce(app, get('/'))
  const report = await app.shutdown.start()
  t.ok(report.durationMs < 1_000, `took ${report.durationMs} ms`)
  t.equal(report.outcome, 'clean')
})

t.test('a hook behaves as without the plugin: its instance, its error, and its order', async t => {
  const order: string[] = []
  const { app } = await service(t, async app => {
    app.decorate('root', true)
    await app.register(async child => {
      child.decorate('child', true)
      child.addHook('onResponse', function (_request, _reply, done) {
        order.push(`first ${String(this.hasDecorator('child'))}`)
        done()
      })
      child.addHook('onResponse', () => { throw new Error('no') })
      child.addHook('onResponse', async () => { order.push('never') })
      child.get('/', async () => 'ok')
    })
  })
  t.match(await fetchOnce(app, get('/')), { status: 200 })
  t.throws(() => app.addHook('onResponse', 'no' as never))
  await t.rejects(async () => {
    const other = Fastify()
    await other.register(gracefulShutdown, { signals: false })
    other.addHook('onResponse', (async (_request: unknown, _reply: unknown, _done: unknown) => {}) as never)
  }, { code: 'FST_ERR_HOOK_INVALID_ASYNC_HANDLER' })
  await app.shutdown.start()
  t.same(order, ['first true'])
})

t.test('hooks that were added before the plugin was loaded are waited for', async t => {
  const db = new Database()
  const app = Fastify({ logger: false }) as FastifyInstance
  t.teardown(() => app.close())
  app.addHook('onResponse', async () => { await db.write() })
  void app.register(async child => {
    child.addHook('onResponse', async () => { await db.write() })
    child.get('/child', async () => 'ok')
  })
  void app.register(gracefulShutdown, { signals: false, delay: 0, resources: { db: { close: () => db.close() } } })
  app.addHook('onResponse', async () => { await db.write() })
  app.get('/', async () => 'ok')
  await app.listen({ port: 0, host: '127.0.0.1' })
  await fetchOnce(app, get('/'))
  await fetchOnce(app, get('/child'))
  t.equal((await app.shutdown.start()).outcome, 'clean')
  t.match(db, { records: 5, lost: 0, writing: 0 })
})
