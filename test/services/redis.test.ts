/** ioredis and node-redis as resources, with a Redis that is healthy, busy, frozen or dead. */
import fastifyRedis from '@fastify/redis'
import { Redis } from 'ioredis'
import type { RedisClientType, createClient as CreateClient } from 'redis'
import t from 'tap'
import { adapterFor, ioredis } from '../../lib/resources/adapters/index'
import { teardown } from '../../lib/resources/teardown'
import { close, inTime, resourceContract, state } from '../helpers/resource-contract'
import type { OpenedOnOwnServer } from '../helpers/resource-contract'
import { serve } from '../helpers/serve'
import { findServer, hasRedis, startProxy, startRedis, unless } from '../helpers/services'
import type { Server } from '../helpers/services'

/** `REDIS_MODULE` names another version of node-redis, as `npm run test:matrix` does. */
const nodeRedis = process.env['REDIS_MODULE'] ?? 'redis'
const { createClient } = require(nodeRedis) as { createClient: typeof CreateClient }
const majorVersion = Number((require(`${nodeRedis}/package.json`) as { version: string }).version.split('.')[0])

/** Version 4 of node-redis has other names for these methods. */
type Version4 = Partial<Pick<RedisClientType, 'close' | 'destroy'>> & Pick<RedisClientType, 'quit' | 'disconnect'>

// Replaced if the server belongs to the test.
const unharmed = { freeze: () => {}, thaw: () => {}, kill: async () => {}, stop: async () => {} }

t.test('against Redis', { ...unless('redis', hasRedis()), timeout: 60_000 }, async t => {
  const own = await startRedis()
  t.teardown(() => own.stop())
  const server = await findServer('redis') ?? own

  const openIORedis = async ({ host, port }: Server): Promise<OpenedOnOwnServer> => {
    const client = new Redis({ host, port })
    client.on('error', () => {})
    await client.ping()
    return {
      client,
      // Nothing is pushed to this list, so the server answers after 0.2 s.
      work: async () => ({ result: client.blpop(`shutdown-test-${process.pid}`, 0.2).then(() => 'done') }),
      // A client that is disconnected while it waits to reconnect keeps that status, but never connects again.
      isClosed: () => client.status === 'end' || (client as unknown as { readonly manuallyClosing?: boolean }).manuallyClosing === true,
      end: () => client.quit(),
      cleanUp: () => client.disconnect(),
      ...unharmed
    }
  }
  const openNodeRedis = async ({ host, port }: Server): Promise<OpenedOnOwnServer> => {
    const client = createClient({ socket: { host, port } })
    client.on('error', () => {})
    await client.connect()
    return {
      client,
      work: async () => ({ result: client.blPop(`shutdown-test-${process.pid}`, 0.2).then(() => 'done') }),
      isClosed: () => !client.isOpen,
      end: () => (client as Version4).close?.() ?? client.quit(),
      cleanUp: () => { if (client.isOpen) void ((client as Version4).destroy?.() ?? client.disconnect()) },
      keepsFrozenSocket: majorVersion === 5,
      ...unharmed
    }
  }
  for (const [name, open] of [['ioredis', openIORedis], ['node-redis', openNodeRedis]] as const) {
    await resourceContract(t, {
      name,
      open: () => open(server),
      openOnOwnServer: async () => {
        const own = await startRedis()
        return { ...await open(own), ...own }
      }
    })
  }

  t.test('node-redis: an idle client whose server is down closes quickly and cleanly, and so does one that never connected', async t => {
    const mortal = await startRedis()
    t.teardown(() => mortal.stop())
    const client = createClient({ socket: { host: mortal.host, port: mortal.port } })
    client.on('error', () => {})
    await client.connect()
    const lost = new Promise<void>(resolve => { client.once('reconnecting', () => resolve()) })
    await mortal.kill()
    await lost
    const { outcome, durationMs } = await teardown({ redis: { client }, never: { client: createClient() } })
    t.equal(outcome, 'clean')
    t.ok(durationMs < 1_000, `${durationMs} ms`)
    t.equal(client.isOpen, false)
  })

  t.test('node-redis: an idle client of a frozen server closes quickly and cleanly, or by force in version 4', async t => {
    const proxy = await startProxy(server)
    t.teardown(async () => { proxy.thaw(); await proxy.stop() })
    const client = createClient({ socket: { host: proxy.host, port: proxy.port } })
    client.on('error', () => {})
    await client.connect()
    proxy.freeze()
    const { outcome, durationMs } = await teardown({ redis: { client, timeout: 500 } })
    // Version 4 does not show whether a command is pending.
    t.equal(outcome, majorVersion === 4 ? 'forced' : 'clean')
    t.ok(durationMs < (majorVersion === 4 ? 1_000 : 400), `${durationMs} ms`)
    t.equal(client.isOpen, false)
  })

  t.test('node-redis: commands that wait for a connection are sent if the server returns in time', async t => {
    const proxy = await startProxy(server)
    t.teardown(() => proxy.stop())
    const client = createClient({ socket: { host: proxy.host, port: proxy.port, reconnectStrategy: () => 20 } })
    client.on('error', () => {})
    await client.connect()
    const lost = new Promise<void>(resolve => { client.once('reconnecting', () => resolve()) })
    proxy.dropAll()
    const key = `shutdown-test-${process.pid}-late`
    await lost
    const set = client.set(key, 'arrived', { EX: 10 })
    await inTime(close(adapterFor(client)))
    t.equal(await set, 'OK')
  })

  t.test('node-redis 4 (by its shape): the last command is answered before the client disconnects, and force after it is no error', async t => {
    for (const isReady of [true, false]) {
      const calls: string[] = []
      class Version4 {
        isOpenNow = true
        multi = this.MULTI
        get isOpen (): boolean { return this.isOpenNow }
        get isReady (): boolean { return isReady }
        get isPubSubActive (): boolean { return false }
        on (): void {}
        MULTI (): void {}
        HGETALL (): void {}
        hGetAll (): void {}
        quit (): never { throw new Error('quit() hangs') }
        async sendCommand ([name]: string[]): Promise<void> { calls.push(name!); if (!isReady) await new Promise(() => {}) }
        async disconnect (): Promise<void> {
          if (!this.isOpenNow) throw new Error('The client is closed')
          this.isOpenNow = false
          calls.push('disconnect')
        }
      }
      const client = new Version4()
      const resource = adapterFor(client)
      await inTime(close(resource), 1_000)
      await resource.force?.()
      t.same(calls, ['PING', 'disconnect'])
      const closed = new Version4()
      await closed.disconnect()
      await adapterFor(closed).force?.()
    }
  })

  t.test('node-redis 5 (by its shape): if destroy throws after close, its socket no longer keeps the process alive', async t => {
    const calls: string[] = []
    class Version5 {
      isOpenNow = true
      _self = this
      get isOpen (): boolean { return this.isOpenNow }
      get isReady (): boolean { return true }
      get isPubSubActive (): boolean { return false }
      on (): void {}
      HGETALL (): void {}
      hGetAll (): void {}
      sendCommand (): void {}
      unref (): void { calls.push('unref') }
      close (): Promise<never> {
        this.isOpenNow = false
        calls.push('close')
        return new Promise(() => {})
      }

      destroy (): void {
        calls.push('destroy')
        if (!this.isOpenNow) throw new Error('The client is closed')
        this.isOpenNow = false
      }
    }
    const resource = adapterFor(new Version5())
    const closing = close(resource)
    t.equal(await state(closing, 20), 'pending')
    await inTime(resource.force?.())
    await inTime(closing)
    t.same(calls, ['close', 'destroy', 'unref'])
  })

  t.test('close does not connect a client that has never connected', async t => {
    const client = new Redis({ host: server.host, port: server.port, lazyConnect: true })
    await inTime(close(ioredis(client)))
    t.equal(client.status, 'end')
  })

  t.test('ioredis: a client without an offline queue whose server is down closes quickly and cleanly', async t => {
    const own = await startRedis()
    t.teardown(() => own.stop())
    const client = new Redis({ port: own.port, enableOfflineQueue: false })
    t.teardown(() => client.disconnect())
    client.on('error', () => {})
    await new Promise(resolve => { client.once('ready', resolve) })
    const lost = new Promise(resolve => { client.once('close', resolve) })
    await own.kill()
    await lost
    t.equal(await state(close(ioredis(client)), 1_000), 'fulfilled')
    t.ok((client as unknown as { readonly manuallyClosing?: boolean }).manuallyClosing, 'it does not reconnect')
  })

  t.test('force rejects a blocking command that never ends', async t => {
    const client = new Redis({ host: server.host, port: server.port })
    const resource = ioredis(client)
    const blocked = client.blpop(`shutdown-test-${process.pid}`, 0).then(() => 'answered', () => 'rejected')
    const closing = close(resource)
    t.equal(await state(closing, 100), 'pending')
    await inTime(resource.force?.())
    await inTime(closing)
    t.equal(await inTime(blocked), 'rejected')
  })

  t.test('force destroys a socket to a frozen server at once, and not after the 2 s of ioredis', async t => {
    const frozen = await startRedis()
    t.teardown(async () => { frozen.thaw(); await frozen.stop() })
    const client = new Redis({ host: frozen.host, port: frozen.port })
    await client.ping()
    frozen.freeze()
    await inTime(ioredis(client).force?.())
    t.equal((client as unknown as { stream: { destroyed: boolean } }).stream.destroyed, true)
    t.equal(client.status, 'end')
  })

  t.test('force rejects commands that wait for a reconnection', async t => {
    const mortal = await startRedis()
    t.teardown(() => mortal.stop())
    const client = new Redis({ host: mortal.host, port: mortal.port, maxRetriesPerRequest: null })
    client.on('error', () => {})
    await client.ping()
    const lost = new Promise<void>(resolve => { client.once('reconnecting', () => resolve()) })
    await mortal.kill()
    await lost
    const resource = ioredis(client)
    const waiting = client.get('nothing').then(() => 'answered', () => 'rejected')
    const closing = close(resource)
    await inTime(resource.force?.())
    await inTime(closing)
    t.equal(await inTime(waiting), 'rejected')
  })

  t.test('the app may quit an adopted client too, before, during and after the shutdown', async t => {
    for (const first of ['app', 'shutdown'] as const) {
      const { app, report } = await serve(t, { routes: async app => { await app.register(fastifyRedis, { host: server.host, port: server.port }) } })
      const client = app.redis
      const command = client.blpop(`shutdown-test-${process.pid}`, 0.1).then(() => 'answered')
      const ending = first === 'app' ? client.quit() : app.close()
      t.equal(await client.quit(), 'OK')
      await ending
      await app.close()
      t.equal(await client.quit(), 'OK')
      t.equal(await command, 'answered')
      t.equal(client.status, 'end')
      t.match(await report, { outcome: 'clean' })
    }
  })

  t.test('after close the server does not list the client', async t => {
    const client = new Redis({ host: server.host, port: server.port, connectionName: `shutdown-test-gone-${process.pid}` })
    await client.ping()
    await close(ioredis(client))
    const after = new Redis({ host: server.host, port: server.port })
    t.notMatch(await after.client('LIST'), /shutdown-test-gone/)
    await after.quit()
  })
})
