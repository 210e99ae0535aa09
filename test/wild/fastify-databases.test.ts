/**
 * Plugins that close their client in an onClose hook of their own: @fastify/mysql on a real MariaDB, and @fastify/mongodb.
 * A resource depends on them by the name of the plugin.
 */
import fastifyMongodb from '@fastify/mongodb'
import fastifyMysql, { type MySQLPromiseConnection, type MySQLPromisePool } from '@fastify/mysql'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import net, { type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { BSON, MongoClient } from 'mongodb'
import t from 'tap'
import type { ResourceInput, ShutdownReport } from '../../types/index'
import { run, translate } from '../helpers/children'
import { build, serve } from '../helpers/serve'
import { findServer, unless, type Server } from '../helpers/services'

const clean = { outcome: 'clean', exitCode: 0, errors: { length: 0 } }
const names = ({ hooks }: ShutdownReport): string[] => hooks.map(({ name }) => name)

/** A worker that uses its database for another 50 ms, and the rows that it has read while closing. */
function createWorker (query: () => Promise<unknown>, dependsOn = ['@fastify/mysql']): { readonly worker: ResourceInput, readonly rows: unknown[] } {
  const rows: unknown[] = []
  const close = async (): Promise<void> => {
    await new Promise(resolve => { setTimeout(resolve, 50) })
    rows.push(await query())
  }
  return { worker: { dependsOn, close }, rows }
}

t.test('@fastify/mysql', async t => {
  const server = await findServer('mysql')
  const there = unless('mysql', server !== undefined)
  const { host, port, user = 'root', password = '' } = server ?? {} as Server
  const config = { host, port, user, password }
  type Client = MySQLPromisePool | MySQLPromiseConnection
  type Decorated = FastifyInstance & { mysql: Client & Readonly<Record<string, Client>> }
  const clientOf = (app: FastifyInstance): Decorated['mysql'] => (app as Decorated).mysql
  const one = async (client: Client): Promise<unknown> => {
    const [rows] = await client.query('SELECT 1 AS one')
    return (rows as Array<{ one: number }>)[0]!.one
  }

  void t.test('a worker closes before the pool, its last query works, and the process exits with 0', there, async t => {
    const directory = translate(t.testdir(), ['lib'])
    writeFileSync(join(directory, 'service.js'), `
      const say = line => process.stdout.write(line + '\\n')
      const app = require('fastify')()
      app.register(require(${JSON.stringify(join(directory, 'lib/index.js'))}), {
        resources: {
          worker: {
            dependsOn: ['@fastify/mysql'],
            close: async () => {
              await new Promise(resolve => setTimeout(resolve, 50))
              const [rows] = await app.mysql.query('SELECT 1 AS one')
              say('worker closed ' + rows[0].one)
            }
          }
        },
        onReport: ({ outcome, exitCode }) => say('report ' + outcome + ' ' + exitCode)
      })
      app.register(require('@fastify/mysql'), { ...${JSON.stringify(config)}, promise: true })
      app.listen({ port: 0, host: '127.0.0.1' }).then(() => {
        app.mysql.pool.pool.end = (end => function (...args) { say('pool closes'); return end.apply(this, args) })(app.mysql.pool.pool.end)
        say('ready')
      })
    `)
    const child = run(t, { args: [join(directory, 'service.js')], cwd: directory })
    await child.said('ready')
    child.kill('SIGTERM')
    const { code, signal, stderr } = await child.ended
    t.strictSame([code, signal, stderr], [0, null, ''])
    t.strictSame(child.lines, ['ready', 'worker closed 1', 'pool closes', 'report clean 0'])
  })

  for (const type of ['pool', 'connection'] as const) {
    for (const promise of [true, false]) {
      void t.test(`a ${type} ${promise ? 'with promises' : 'with callbacks'} closes after the worker`, there, async t => {
        const { worker, rows } = createWorker(async () => promise
          ? await one(clientOf(app))
          : await new Promise((resolve, reject) => {
            const query = clientOf(app).query as unknown as (sql: string, done: (error: Error | null, rows: [{ one: number }]) => void) => void
            query('SELECT 1 AS one', (error, rows) => { error === null ? resolve(rows[0].one) : reject(error) })
          }))
        const { app } = await serve(t, {
          options: { resources: { worker } },
          routes: app => { void app.register(fastifyMysql, { ...config, promise, type } as object) }
        })
        const report = await app.shutdown.start()
        t.match(report, clean)
        t.strictSame([rows, names(report)], [[1], ['@fastify/mysql']])
      })
    }
  }

  void t.test('in an encapsulated context, and in two of them', there, async t => {
    for (const prefixes of [['/a'], ['/a', '/b']]) {
      const children: FastifyInstance[] = []
      const { worker, rows } = createWorker(async () => await Promise.all(children.map(async child => await one(clientOf(child)))))
      const { app } = await serve(t, {
        options: { resources: { worker } },
        routes: app => {
          for (const prefix of prefixes) {
            void app.register(async child => {
              children.push(child)
              await child.register(fastifyMysql, { ...config, promise: true })
              child.get('/', async () => await one(clientOf(child)))
            }, { prefix })
          }
        }
      })
      t.equal((await app.inject('/a')).body, '1')
      t.match(await app.shutdown.start(), clean)
      t.strictSame(rows, [prefixes.map(() => 1)])
    }
  })

  void t.test('registered twice with different names: the worker closes before both pools', there, async t => {
    const { worker, rows } = createWorker(async () => await Promise.all(['main', 'archive'].map(async name => await one(clientOf(app)[name]!))))
    const { app } = await serve(t, {
      options: { resources: { worker } },
      routes: app => { for (const name of ['main', 'archive']) void app.register(fastifyMysql, { ...config, promise: true, name }) }
    })
    const report = await app.shutdown.start()
    t.match(report, clean)
    t.strictSame([rows, names(report)], [[[1, 1]], ['@fastify/mysql', '@fastify/mysql']])
  })

  void t.test('the worker may depend on the plugin of the app that registers @fastify/mysql', there, async t => {
    for (const awaited of [true, false]) {
      const { worker, rows } = createWorker(async () => await one(clientOf(app)), ['database'])
      const { app } = await serve(t, {
        options: { resources: { worker } },
        routes: app => {
          void app.register(fp(async app => {
            const registered = app.register(fastifyMysql, { ...config, promise: true })
            if (awaited) await registered
          }, { name: 'database' }))
        }
      })
      t.match(await app.shutdown.start(), clean)
      t.strictSame(rows, [1])
    }
  })

  void t.test('hooks that the app adds after it run before the worker closes, under their own names', there, async t => {
    const order: string[] = []
    const { worker } = createWorker(async () => { order.push('worker'); return await one(clientOf(app)) })
    const { app } = await serve(t, {
      options: { resources: { worker } },
      routes: async app => {
        await app.register(fp(async app => {
          await app.register(fastifyMysql, { ...config, promise: true })
          app.addHook('onClose', async () => { order.push('database') })
        }, { name: 'database' }))
        app.addHook('onClose', async () => { order.push('app') })
      }
    })
    const report = await app.shutdown.start()
    t.match(report, clean)
    t.strictSame(order, ['app', 'database', 'worker'])
    t.strictSame(names(report), ['app', 'database', '@fastify/mysql'])
  })

  void t.test('registered before fastify-shutdown, its hook runs last', there, async t => {
    const { worker, rows } = createWorker(async () => await one(clientOf(app)))
    const { app } = await serve(t, {
      before: async app => { await app.register(fastifyMysql, { ...config, promise: true }) },
      options: { resources: { worker } }
    })
    t.match(await app.shutdown.start(), clean)
    t.strictSame(rows, [1])
  })

  void t.test('a misspelled name is refused, with the name of the plugin', there, async t => {
    const { worker } = createWorker(async () => {}, ['fastify-mysql'])
    const { app } = await build(t, { options: { resources: { worker } } })
    void app.register(fastifyMysql, { ...config, promise: true })
    await t.rejects(async () => await app.ready(), { code: 'FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY', message: /Did you mean '@fastify\/mysql'\?/ })
  })
})

t.test('@fastify/mongodb', async t => {
  void t.test('a client that the app creates stays open, and its resource closes it quickly while its server is down', async t => {
    const client = new MongoClient('mongodb://127.0.0.1:1/test', { serverSelectionTimeoutMS: 60_000 })
    // It waits for a server, which it never finds.
    const query = client.db().command({ ping: 1 }).then(() => 'answered', () => 'rejected')
    const { app } = await serve(t, {
      options: { resources: { mongo: { client }, idle: { client: new MongoClient('mongodb://127.0.0.1:1/test') } } },
      routes: app => { void app.register(fastifyMongodb, { client }) }
    })
    const { resources, outcome, durationMs } = await app.shutdown.start()
    t.equal(outcome, 'clean')
    t.strictSame(resources.map(({ name, outcome }) => `${name} ${outcome}`), ['mongo closed', 'idle closed'])
    t.equal(await query, 'rejected')
    t.ok(durationMs < 2_000, `${durationMs} ms`)
  })

  void t.test('its own client closes after the worker, also if the server has died', async t => {
    for (const dies of [false, true]) {
      const server = await startStandIn()
      t.teardown(server.stop)
      const order: string[] = []
      const { app } = await serve(t, {
        options: {
          resources: {
            worker: {
              dependsOn: ['@fastify/mongodb'],
              close: async () => {
                await new Promise(resolve => { setTimeout(resolve, 50) })
                if (!dies) await app.mongo.client.db().command({ ping: 1 })
                order.push('worker')
              }
            }
          }
        },
        routes: app => { void app.register(fastifyMongodb, { url: `mongodb://127.0.0.1:${server.port}/test` }) }
      })
      app.mongo.client.on('topologyClosed', () => { order.push('client') })
      await app.mongo.client.db().command({ ping: 1 })
      if (dies) server.stop()
      const report = await app.shutdown.start()
      t.match(report, clean)
      t.strictSame([order, names(report)], [['worker', 'client'], ['@fastify/mongodb']])
      t.ok(report.durationMs < 2_000, `${report.durationMs} ms`)
    }
  })
})

/** Answers each command as MongoDB answers `hello` and `ping`, so that the real driver connects. It stores nothing. */
async function startStandIn (): Promise<{ readonly port: number, stop(): void }> {
  const hello = {
    ok: 1,
    helloOk: true,
    isWritablePrimary: true,
    minWireVersion: 0,
    maxWireVersion: 25,
    maxBsonObjectSize: 2 ** 24,
    maxMessageSizeBytes: 48_000_000,
    maxWriteBatchSize: 100_000,
    localTime: new Date(),
    connectionId: 1,
    readOnly: false
  }
  const sockets = new Set<net.Socket>()
  const server = net.createServer(socket => {
    sockets.add(socket)
    let received = Buffer.alloc(0)
    socket.on('error', () => {})
    socket.on('data', chunk => {
      received = Buffer.concat([received, chunk])
      while (received.length >= 4 && received.length >= received.readInt32LE(0)) {
        const message = received.subarray(0, received.readInt32LE(0))
        received = received.subarray(message.length)
        const isQuery = message.readInt32LE(12) === 2004 // OP_QUERY, for the first `hello`
        const body = BSON.serialize(hello)
        const prefix = isQuery ? Buffer.alloc(20) : Buffer.alloc(5) // OP_REPLY or OP_MSG
        if (isQuery) prefix.writeInt32LE(1, 16)
        const header = Buffer.alloc(16)
        header.writeInt32LE(16 + prefix.length + body.length, 0)
        header.writeInt32LE(message.readInt32LE(4), 8)
        header.writeInt32LE(isQuery ? 1 : 2013, 12)
        socket.write(Buffer.concat([header, prefix, body]))
      }
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    stop () {
      server.close()
      for (const socket of sockets) socket.destroy()
    }
  }
}
