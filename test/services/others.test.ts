/** The clients of MariaDB, RabbitMQ, NATS, MQTT, HTTP, logs and traces as resources. A proxy makes a server frozen or dead. */
import { connect as connectAmqp } from 'amqplib'
import { Kafka, logLevel } from 'kafkajs'
import { MongoClient } from 'mongodb'
import { connectAsync as connectMqtt } from 'mqtt'
import mysql from 'mysql2'
import mysqlPromise from 'mysql2/promise'
import { connect as connectNats } from 'nats'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pino from 'pino'
import t from 'tap'
import { Agent, Client, Pool } from 'undici'
import { adapterFor, adapters, amqpConnection, mongoClient, mqttClient, mysqlPool, openTelemetry, pinoDestination } from '../../lib/resources/adapters/index'
import { close, inTime, resourceContract, state } from '../helpers/resource-contract'
import type { OpenedOnOwnServer, Fixture } from '../helpers/resource-contract'
import { findServer, startProxy, unless } from '../helpers/services'
import type { Server } from '../helpers/services'

// Replaced if a proxy stands in front of the server.
const unharmed = { freeze: () => {}, thaw: () => {}, kill: async () => {}, stop: async () => {} }
// Its types have no `destroyed`.
type PinoStream = ReturnType<typeof pino.destination> & { readonly destroyed?: boolean }
const unique = `shutdown-test-${process.pid}`

/** Opens the same client directly on the server, or behind a proxy that can be harmed. */
function behindProxy (name: string, server: Server, open: (at: Server) => Promise<OpenedOnOwnServer>): Pick<Fixture, 'name' | 'open' | 'openOnOwnServer'> {
  return {
    name,
    open: () => open(server),
    openOnOwnServer: async () => {
      const proxy = await startProxy(server)
      return { ...await open(proxy), ...proxy }
    }
  }
}

t.test('mysql2 against MariaDB or MySQL', async t => {
  const server = await findServer('mysql')
  await t.test('pools and connections, with callbacks and with promises', { ...unless('mysql', server !== undefined), timeout: 60_000 }, async t => {
    if (server === undefined) return
    const options = ({ host, port, user = 'root', password = '' }: Server): mysql.PoolOptions => ({ host, port, user, password })
    const slow = "select 'done' as word, sleep(0.3)"
    const word = (rows: unknown): unknown => (rows as Array<{ word: string }>)[0]?.word

    await resourceContract(t, behindProxy('mysql2 Pool with promises', server, async at => {
      const pool = mysqlPromise.createPool(options(at))
      await pool.query('select 1')
      return {
        client: pool,
        work: async () => {
          const result = pool.query(slow).then(([rows]) => word(rows))
          await pool.query('select 1')
          return { result }
        },
        isClosed: () => (pool as unknown as { readonly pool: { readonly _closed: boolean } }).pool._closed,
        end: () => pool.end(),
        ...unharmed
      }
    }))
    await resourceContract(t, behindProxy('mysql2 Pool with callbacks', server, async at => {
      const pool = mysql.createPool(options(at))
      const query = (sql: string): Promise<unknown> => new Promise((resolve, reject) => {
        pool.query(sql, (error, rows) => { if (error !== null) reject(error); else resolve(word(rows)) })
      })
      await query('select 1')
      return {
        client: pool,
        work: async () => { const result = query(slow); await query('select 1'); return { result } },
        isClosed: () => (pool as unknown as { readonly _closed: boolean })._closed,
        end: () => new Promise<void>(resolve => { pool.end(() => resolve()) }),
        ...unharmed
      }
    }))
    await resourceContract(t, behindProxy('mysql2 Connection with promises', server, async at => {
      const connection = await mysqlPromise.createConnection(options(at))
      return {
        client: connection,
        work: async () => {
          const first = connection.query('select 1')
          const result = connection.query(slow).then(([rows]) => word(rows))
          await first
          return { result }
        },
        isClosed: () => (connection as unknown as { readonly connection: { readonly _closing: boolean } }).connection._closing,
        end: () => connection.end(),
        ...unharmed
      }
    }))
    await resourceContract(t, behindProxy('mysql2 Connection with callbacks', server, async at => {
      const connection = mysql.createConnection(options(at))
      await new Promise<void>((resolve, reject) => connection.connect(error => { if (error !== null) reject(error); else resolve() }))
      return {
        client: connection,
        work: async () => ({
          result: new Promise((resolve, reject) => {
            connection.query(slow, (error, rows) => { if (error !== null) reject(error); else resolve(word(rows)) })
          })
        }),
        isClosed: () => (connection as unknown as { readonly _closing: boolean })._closing,
        end: () => new Promise<void>(resolve => { connection.end(() => resolve()) }),
        ...unharmed
      }
    }))

    t.test('queued queries and a transaction in flight finish before the pool ends', async t => {
      const pool = mysqlPromise.createPool({ ...options(server), connectionLimit: 1 })
      const connection = await pool.getConnection()
      await connection.beginTransaction()
      const resource = mysqlPool(pool)
      const waiting = [1, 2, 3].map(n => pool.query('select ? as n', [n]).then(([rows]) => (rows as Array<{ n: number }>)[0]?.n))
      const closing = close(resource)
      t.equal(await state(closing, 50), 'pending')
      await connection.query('select 1')
      await connection.commit()
      connection.release()
      t.same(await inTime(Promise.all(waiting)), [1, 2, 3])
      await inTime(closing)
    })

    t.test('force rejects queries that wait for a connection', async t => {
      const pool = mysqlPromise.createPool({ ...options(server), connectionLimit: 1 })
      await pool.getConnection()
      const resource = mysqlPool(pool)
      const waiting = pool.query('select 1').then(() => 'served', () => 'rejected')
      const closing = close(resource)
      await inTime(resource.force?.())
      await inTime(closing)
      t.equal(await inTime(waiting), 'rejected')
    })
  })
})

t.test('amqplib against RabbitMQ', async t => {
  const server = await findServer('rabbitmq')
  await t.test('connections and channels', { ...unless('rabbitmq', server !== undefined), timeout: 60_000 }, async t => {
    if (server === undefined) return
    const connect = ({ host, port, user = 'guest', password = 'guest' }: Server): ReturnType<typeof connectAmqp> =>
      connectAmqp({ hostname: host, port, username: user, password })

    const open = (of: 'connection' | 'channel') => async (at: Server): Promise<OpenedOnOwnServer> => {
      const connection = await connect(at)
      connection.on('error', () => {})
      // The connection's resource is made before its channels, so that it tracks them.
      const resource = of === 'connection' ? amqpConnection(connection) : undefined
      const channel = await connection.createConfirmChannel()
      const queue = `${unique}-${Math.random()}`
      await channel.assertQueue(queue, { exclusive: true })
      channel.on('error', () => {})
      let closed = false
      for (const event of ['close', 'error']) (of === 'connection' ? connection : channel).on(event, () => { closed = true })
      return {
        client: of === 'connection' ? connection : channel,
        ...(resource === undefined ? {} : { resource }),
        work: async () => {
          const delivered = new Promise<{ result: Promise<string> }>(resolve => {
            channel.consume(queue, message => {
              if (message === null) return
              resolve({ result: sleep(300).then(() => { channel.ack(message); return 'done' }) })
            }).catch(() => {})
          })
          channel.sendToQueue(queue, Buffer.from('work'))
          const { result } = await delivered
          return { result }
        },
        isClosed: () => closed,
        keepsSockets: of === 'channel',
        end: () => of === 'connection' ? connection.close() : channel.close(),
        cleanUp: () => connection.close().catch(() => {}),
        ...unharmed
      }
    }
    for (const of of ['connection', 'channel'] as const) {
      // An acknowledgement on a dead connection has no error; the broker delivers the message again.
      await resourceContract(t, { ...behindProxy(`amqplib ${of}`, server, open(of)), rejects: false })
    }

    t.test('force returns unacknowledged messages to their queue', async t => {
      const connection = await connect(server)
      const resource = adapterFor(connection)
      const channel = await connection.createChannel()
      const queue = `${unique}-returned`
      await channel.assertQueue(queue)
      const taken = new Promise<void>(resolve => { channel.consume(queue, () => resolve()).catch(() => {}) })
      channel.sendToQueue(queue, Buffer.from('one'))
      await taken
      await resource.pause?.()
      const closing = close(resource)
      t.equal(await state(closing, 100), 'pending', 'close waits for the acknowledgement')
      await inTime(resource.force?.())
      await inTime(closing)
      const after = await connect(server)
      const other = await after.createChannel()
      const again = new Promise<boolean>((resolve, reject) => {
        other.consume(queue, message => { if (message !== null) { other.ack(message); resolve(message.fields.redelivered) } }).catch(reject)
      })
      t.equal(await again, true)
      await other.deleteQueue(queue)
      await close(adapterFor(after))
    })
  })
})

t.test('nats against NATS', async t => {
  const server = await findServer('nats')
  await t.test('a connection', { ...unless('nats', server !== undefined), timeout: 60_000 }, async t => {
    if (server === undefined) return
    const responder = await connectNats({ servers: `${server.host}:${server.port}` })
    t.teardown(() => responder.close())
    responder.subscribe(unique, { callback: (_error, message) => { setTimeout(() => message.respond('done'), 250) } })
    await responder.flush()
    await resourceContract(t, behindProxy('nats', server, async at => {
      const connection = await connectNats({ servers: `${at.host}:${at.port}`, reconnect: false })
      return {
        client: connection,
        work: async () => {
          const result = connection.request(unique, undefined, { timeout: 5_000 }).then(message => message.string())
          await connection.flush()
          return { result }
        },
        isClosed: () => connection.isClosed(),
        end: () => connection.drain(),
        ...unharmed
      }
    }))

    t.test('the messages that a subscription has received are processed before the connection closes', async t => {
      const connection = await connectNats({ servers: `${server.host}:${server.port}` })
      const resource = adapterFor(connection)
      const subject = `${unique}-sub`
      const subscription = connection.subscribe(subject)
      const seen: string[] = []
      const working = (async () => {
        for await (const message of subscription) { await sleep(10); seen.push(message.string()) }
      })()
      await connection.flush()
      for (const word of ['one', 'two', 'three']) responder.publish(subject, word)
      await responder.flush()
      await inTime(close(resource))
      await inTime(working)
      t.same(seen, ['one', 'two', 'three'])
    })
  })
})

t.test('mqtt against a broker', async t => {
  const server = await findServer('mqtt')
  await t.test('a client', { ...unless('mqtt', server !== undefined), timeout: 60_000 }, async t => {
    if (server === undefined) return
    const open = async ({ host, port }: Server): Promise<OpenedOnOwnServer & { client: Awaited<ReturnType<typeof connectMqtt>> }> => {
      const client = await connectMqtt(`mqtt://${host}:${port}`, { reconnectPeriod: 100 })
      client.on('error', () => {})
      return {
        client,
        work: async () => ({ result: client.publishAsync(unique, 'work', { qos: 1 }).then(() => 'done') }),
        isClosed: () => client.disconnected || client.disconnecting,
        end: () => client.endAsync(),
        cleanUp: () => client.end(true),
        ...unharmed
      }
    }
    // The broker acknowledges before the test can freeze it, so the next test covers this.
    await resourceContract(t, { ...behindProxy('mqtt', server, open), works: false })

    t.test('close waits for an acknowledgement from a frozen broker, and force rejects the publish', async t => {
      const proxy = await startProxy(server)
      t.teardown(() => proxy.stop())
      const { client } = await open(proxy)
      const resource = mqttClient(client)
      proxy.freeze()
      const published = client.publishAsync(unique, 'work', { qos: 1 }).then(() => 'acknowledged', () => 'rejected')
      const closing = close(resource)
      t.equal(await state(closing, 150), 'pending')
      await inTime(resource.force?.())
      await inTime(closing)
      t.equal(await inTime(published), 'rejected')
    })
  })
})

t.test('undici against a server of our own', async t => {
  const server = http.createServer((_request, response) => { setTimeout(() => response.end('done'), 250) }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.closeAllConnections(); server.close() })
  const at = { host: '127.0.0.1', port: (server.address() as AddressInfo).port }
  const origin = ({ host, port }: Server): string => `http://${host}:${port}`
  for (const [name, make] of [['Agent', () => new Agent()], ['Pool', (of: string) => new Pool(of)], ['Client', (of: string) => new Client(of)]] as const) {
    await resourceContract(t, behindProxy(`undici ${name}`, at, async at => {
      const client = make(origin(at))
      return {
        client,
        work: async () => {
          const arrived = once(server, 'request')
          const result = client.request({ origin: origin(at), path: '/', method: 'GET' }).then(({ body }) => body.text())
          await arrived
          return { result }
        },
        isClosed: () => client.closed || client.destroyed,
        end: () => client.close(),
        ...unharmed
      }
    }))
  }
})

t.test('pino', async t => {
  const directory = mkdtempSync(join(tmpdir(), 'fastify-shutdown-log-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  let file = 0
  const open = async (): Promise<{ destination: PinoStream, logger: pino.Logger, written: () => string }> => {
    const dest = join(directory, `${++file}.log`)
    const destination: PinoStream = pino.destination({ dest, sync: false, minLength: 10_000 })
    await once(destination, 'ready')
    return { destination, logger: pino(destination), written: () => readFileSync(dest, 'utf8') }
  }

  t.test('close writes the buffer of a logger, which can still log the report later', async t => {
    const { logger, destination, written } = await open()
    const resource = adapterFor(logger)
    logger.info('the last word')
    t.equal(written(), '')
    await inTime(close(resource))
    await close(resource)
    t.equal(resource.last, true)
    t.match(written(), 'the last word')
    t.doesNotThrow(() => logger.info('the report'))
    await close(adapterFor(destination))
    t.match(written(), 'the report')
  })

  t.test('a destination is flushed and closed', async t => {
    const { logger, destination, written } = await open()
    const resource = adapterFor(destination)
    logger.info('the last word')
    await inTime(close(resource))
    await close(resource)
    t.equal(resource.last, true)
    t.match(written(), 'the last word')
    t.equal(destination.destroyed, true)
    await close(adapterFor(destination))
  })

  t.test('a transport, which writes in a worker thread, is flushed and closed', async t => {
    const destination = join(directory, 'transport.log')
    const transport = pino.transport({ target: 'pino/file', options: { destination } })
    await once(transport, 'ready')
    const logger = pino(transport)
    for (let i = 0; i < 1_000; i++) logger.info(`line ${i}`)
    const resource = adapterFor(transport)
    t.equal(resource.last, true)
    await inTime(close(resource), 10_000)
    await close(resource)
    t.equal(readFileSync(destination, 'utf8').trim().split('\n').length, 1_000)
    await inTime(close(adapterFor(transport)))
  })

  t.test('force destroys a destination that never closes', async t => {
    let destroyed = false
    const stuck = { flush: () => {}, end: () => {}, once: () => {}, on: () => {}, destroy: () => { destroyed = true } }
    const resource = pinoDestination(stuck)
    const closing = close(resource)
    t.equal(await state(closing, 50), 'pending')
    await resource.force?.()
    await inTime(closing)
    t.equal(destroyed, true)
  })
})

t.test('OpenTelemetry', async t => {
  t.test('close flushes before it shuts down, and the resource is last', async t => {
    const calls: string[] = []
    const provider = { getTracer: () => {}, forceFlush: async () => { calls.push('forceFlush') }, shutdown: async () => { calls.push('shutdown') } }
    const resource = adapterFor(provider)
    await close(resource)
    await close(resource)
    t.same(calls, ['forceFlush', 'shutdown'])
    t.equal(resource.last, true)
    t.equal(resource.force, undefined, 'nothing can force it')
  })

  t.test('a flush that fails is reported, and the SDK is shut down all the same', async t => {
    const calls: string[] = []
    const resource = openTelemetry(Object.assign({ shutdown: async () => { calls.push('shutdown') } }, { forceFlush: async () => { throw new Error('collector gone') } }))
    await t.rejects(close(resource), /collector gone/)
    t.same(calls, ['shutdown'])
  })
})

t.test('mongodb: the client closes when its operations have finished, as the events of its pools show', async t => {
  // There is no server, so the test emits the driver's own events.
  const client = new MongoClient('mongodb://127.0.0.1:1')
  const resource = mongoClient(client)
  const emit = client.emit.bind(client) as unknown as (event: string) => boolean
  emit('connectionCheckOutStarted')
  emit('connectionCheckOutStarted')
  const closing = close(resource)
  emit('connectionCheckOutFailed')
  t.equal(await state(closing, 50), 'pending')
  emit('connectionCheckedIn')
  await inTime(closing)
  await close(resource)

  const stuck = new MongoClient('mongodb://127.0.0.1:1')
  const forced = mongoClient(stuck);
  (stuck.emit.bind(stuck) as unknown as (event: string) => boolean)('connectionCheckOutStarted')
  const hanging = close(forced)
  await inTime(forced.force?.())
  await inTime(hanging)
})

t.test('kafkajs: pause stops a consumer and close disconnects it', async t => {
  const kafka = new Kafka({ brokers: ['127.0.0.1:1'], logLevel: logLevel.NOTHING })
  const consumer = kafka.consumer({ groupId: unique })
  const calls: string[] = []
  for (const name of ['stop', 'disconnect'] as const) {
    const own = consumer[name]
    consumer[name] = async () => { calls.push(name); await own() }
  }
  const resource = adapterFor(consumer)
  await resource.pause?.()
  await close(resource)
  await close(resource)
  t.same(calls, ['stop', 'disconnect'])
  for (const client of [kafka.producer(), kafka.admin()]) {
    t.equal(adapterFor(client).pause, undefined)
    await close(adapterFor(client))
  }
})

t.test('an unknown client is refused with the list of known kinds', async t => {
  class Etcd { lease (): void {} }
  const error = t.throws(() => adapterFor(new Etcd())) as Error & { code: string }
  t.equal(error.code, 'FST_ERR_SHUTDOWN_CLIENT')
  t.match(error.message, 'Etcd, with lease')
  for (const { kind } of adapters) t.ok(error.message.includes(kind), kind)
  t.throws(() => adapterFor(Object.create(null) as object), { code: 'FST_ERR_SHUTDOWN_CLIENT' })
})
