/**
 * RabbitMQ with amqplib, its option `recovery`, and amqp-connection-manager: what the client accepted before `close` has
 * reached the broker after it. The broker itself is asked.
 */
import { connect as connectManager } from 'amqp-connection-manager'
import { connect, type Channel, type ConsumeMessage } from 'amqplib'
import { once } from 'node:events'
import { join } from 'node:path'
import t from 'tap'
import { adapterFor, amqpConnection } from '../../lib/resources/adapters/index'
import { teardown } from '../../lib/resources/teardown'
import { run, translate } from '../helpers/children'
import { close, inTime, resourceContract, state } from '../helpers/resource-contract'
import type { OpenedOnOwnServer } from '../helpers/resource-contract'
import { findServer, startProxy, unless, type Server } from '../helpers/services'

// Replaced if a proxy stands in front of the server.
const unharmed = { freeze: () => {}, thaw: () => {}, kill: async () => {}, stop: async () => {} }
let made = 0
const newQueue = (): string => `shutdown-test-${process.pid}-${made++}`

t.test('against RabbitMQ', { timeout: 60_000 }, async t => {
  const server = await findServer('rabbitmq')
  if (server === undefined) return t.test('queues', unless('rabbitmq', false), async () => {})
  const { host, port, user = 'guest', password = 'guest' } = server
  const options = { hostname: host, port, username: user, password }
  const url = (at: Server): string => `amqp://${user}:${password}@${at.host}:${at.port}`

  const admin = await connect(options)
  const asking = await admin.createChannel()
  t.teardown(() => admin.close())
  const create = async (...messages: string[]): Promise<string> => {
    const queue = newQueue()
    await asking.assertQueue(queue)
    t.teardown(() => asking.deleteQueue(queue))
    for (const message of messages) asking.sendToQueue(queue, Buffer.from(message))
    return queue
  }
  const countOf = async (queue: string): Promise<number> => (await asking.checkQueue(queue)).messageCount
  const consumed = (channel: Channel, queue: string, handle: (message: ConsumeMessage) => void): Promise<void> => new Promise((resolve, reject) => {
    channel.consume(queue, message => { if (message !== null) { handle(message); resolve() } }).catch(reject)
  })

  for (const kind of ['createChannel', 'createConfirmChannel'] as const) {
    t.test(`the last ack and the last publish of ${kind}() reach the broker, though close comes in the same tick`, async t => {
      const [jobs, results] = [await create('job'), await create()]
      const connection = await connect(options)
      const resource = amqpConnection(connection)
      const channel = await connection[kind]()
      let closing: Promise<void> | undefined
      await consumed(channel, jobs, message => {
        channel.ack(message)
        channel.sendToQueue(results, Buffer.alloc(300_000))
        closing = close(resource)
      })
      await inTime(closing)
      t.equal(await countOf(jobs), 0, 'the job is not delivered again')
      t.equal(await countOf(results), 1)
    })
  }

  t.test('without the adapter both are lost: amqplib sends the close of the connection first', async t => {
    const [jobs, results] = [await create('job'), await create()]
    const connection = await connect(options)
    const channel = await connection.createChannel()
    let closing: Promise<void> | undefined
    await consumed(channel, jobs, message => {
      channel.ack(message)
      channel.sendToQueue(results, Buffer.from('result'))
      closing = connection.close()
    })
    await closing
    t.equal(await countOf(jobs), 1)
    t.equal(await countOf(results), 0)
  })

  t.test('a dependant that acknowledges and publishes in its own close loses nothing', async t => {
    const [jobs, results] = [await create('job'), await create()]
    const connection = await connect(options)
    const client = amqpConnection(connection)
    const channel = await connection.createChannel()
    let job: ConsumeMessage | undefined
    await consumed(channel, jobs, message => { job = message })
    const { outcome } = await teardown({
      rabbitmq: client,
      worker: { dependsOn: ['rabbitmq'], close () { channel.ack(job!); channel.sendToQueue(results, Buffer.from('result')) } }
    })
    t.equal(outcome, 'clean')
    t.equal(await countOf(jobs), 0)
    t.equal(await countOf(results), 1)
  })

  t.test('a service that gets SIGTERM answers its last message, exits with 0, and the broker has both', async t => {
    const [jobs, results] = [await create('job'), await create()]
    const directory = translate(t.testdir(), ['lib', 'test/wild/fixtures/amqp-worker.ts'])
    const child = run(t, { args: [join(directory, 'test/wild/fixtures/amqp-worker.js'), url(server), jobs, results] })
    await child.said('taken')
    child.kill('SIGTERM')
    t.equal(await child.said('outcome'), 'clean')
    t.match(await child.ended, { code: 0, signal: null })
    t.equal(await countOf(jobs), 0)
    t.equal(await countOf(results), 1)
  })

  t.test('a message of one channel may be answered on another that is idle', async t => {
    const [jobs, results] = [await create('job'), await create()]
    const connection = await connect(options)
    const resource = amqpConnection(connection)
    const [from, to] = [await connection.createChannel(), await connection.createChannel()]
    let answer = (): void => {}
    await consumed(from, jobs, message => {
      answer = () => { to.sendToQueue(results, Buffer.from('result')); from.ack(message) }
    })
    const closing = close(resource)
    t.equal(await state(closing, 100), 'pending', 'close waits for the message')
    answer()
    await inTime(closing)
    t.equal(await countOf(results), 1)
  })

  t.test('a channel alone and a channel that its owner closes lose nothing either', async t => {
    for (const owner of [false, true]) {
      const queue = await create()
      const connection = await connect(options)
      const channel = await connection.createChannel()
      const resource = owner ? amqpConnection(connection) : adapterFor(channel)
      channel.sendToQueue(queue, Buffer.from('last'))
      if (owner) channel.close().catch(() => {})
      await inTime(close(resource))
      t.equal(await countOf(queue), 1)
      if (!owner) await connection.close()
    }
  })

  const openManager = async (at: Server): Promise<OpenedOnOwnServer> => {
    const queue = newQueue()
    const manager = connectManager([url(at)], { heartbeatIntervalInSeconds: 60, reconnectTimeInSeconds: 1 })
    const channel = manager.createChannel({ setup: (raw: Channel) => raw.assertQueue(queue, { exclusive: true }) })
    channel.on('error', () => {})
    await channel.waitForConnect()
    return {
      client: manager,
      work: async () => {
        const delivered = new Promise<{ result: Promise<string> }>(resolve => {
          channel.consume(queue, message => {
            resolve({ result: new Promise(resolve => setTimeout(() => { channel.ack(message); resolve('done') }, 300)) })
          }).catch(() => {})
        })
        channel.sendToQueue(queue, Buffer.from('work')).catch(() => {})
        return await delivered
      },
      isClosed: () => (manager as unknown as { readonly _closed: boolean })._closed,
      end: () => manager.close(),
      ...unharmed
    }
  }
  const openRecovering = async (at: Server): Promise<OpenedOnOwnServer> => {
    const connection = await connect(url(at), { recovery: true } as object)
    connection.on('error', () => {})
    await (connection as unknown as { waitForConnect (): Promise<void> }).waitForConnect()
    const resource = adapterFor(connection)
    const channel = await connection.createChannel()
    const { queue } = await channel.assertQueue('', { exclusive: true })
    return {
      client: connection,
      resource,
      work: async () => {
        let result: Promise<string> | undefined
        const delivered = consumed(channel, queue, message => {
          result = new Promise(resolve => setTimeout(() => {
            try { channel.ack(message) } catch { /* the connection is lost */ }
            resolve('done')
          }, 300))
        })
        channel.sendToQueue(queue, Buffer.from('work'))
        await delivered
        return { result: result! }
      },
      isClosed: () => (connection as unknown as { readonly _core: { readonly _stopped: boolean } })._core._stopped,
      end: () => connection.close(),
      ...unharmed
    }
  }
  for (const [name, open] of [['amqp-connection-manager', openManager], ['amqplib with recovery', openRecovering]] as const) {
    await resourceContract(t, {
      name,
      open: () => open(server),
      openOnOwnServer: async () => {
        const proxy = await startProxy(server)
        return { ...await open(proxy), ...proxy }
      },
      rejects: false
    })
  }

  t.test('amqp-connection-manager: close waits for the publishes that are not confirmed, and the last ack arrives', async t => {
    const [jobs, results] = [await create('job'), await create()]
    const manager = connectManager([url(server)])
    const resource = adapterFor(manager)
    const channel = manager.createChannel()
    await channel.waitForConnect()
    let closing: Promise<void> | undefined
    let published: Promise<boolean> | undefined
    await new Promise<void>(resolve => {
      channel.consume(jobs, message => {
        published = channel.sendToQueue(results, Buffer.from('result'))
        channel.ack(message)
        closing = close(resource)
        resolve()
      }).catch(() => {})
    })
    await inTime(closing)
    t.equal(await published, true)
    t.equal(await countOf(jobs), 0)
    t.equal(await countOf(results), 1)
  })

  t.test('with a broker that is down, an idle connection closes quickly and cleanly', async t => {
    const manager = connectManager(['amqp://127.0.0.1:1'])
    manager.createChannel()
    await once(manager, 'connectFailed')
    const recovering = await connect('amqp://127.0.0.1:1', { recovery: { waitForConnect: false } } as object)
    const { outcome, durationMs } = await teardown({ manager: { client: manager }, recovering: { client: recovering } })
    t.equal(outcome, 'clean')
    t.ok(durationMs < 1_000, `${durationMs} ms`)
  })

  t.test('amqp-connection-manager: force rejects the publishes that wait for a broker', async t => {
    const manager = connectManager(['amqp://127.0.0.1:1'])
    const resource = adapterFor(manager)
    const channel = manager.createChannel()
    const failed = once(manager, 'connectFailed')
    const publish = channel.sendToQueue('nowhere', Buffer.from('late')).then(() => 'sent', () => 'rejected')
    await failed
    const closing = close(resource)
    t.equal(await state(closing, 100), 'pending')
    await inTime(resource.force?.())
    await inTime(closing)
    t.equal(await inTime(publish), 'rejected')
  })
})
