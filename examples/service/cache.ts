/**
 * The cache: in Redis, and in the memory of this process while Redis is away. A cache that fails must not fail the
 * request, so no error leaves this file.
 */
import { createCache, createStorage, type StorageInterface } from 'async-cache-dedupe'
import type { FastifyInstance } from 'fastify'
import type { Redis } from 'ioredis'
import type { Database } from './database'

export interface Order {
  readonly id: string
  readonly item: string
}

export interface OrderCache {
  /** Finds an order: in the cache, else in the database. Requests for the same order share one query. */
  find(id: string): Promise<Order | null>
  /** Stores an order that was just written. */
  store(order: Order): Promise<void>
  /** Where the next call goes. */
  readonly place: 'redis' | 'memory'
}

/** How long an order stays in the cache, in seconds. Orders do not change. */
const ttl = 60

/** How long the memory is used after Redis has failed to answer, in milliseconds. */
const pause = 1_000

/** Opens the cache. Without Redis it is in memory. */
export function openCache (app: FastifyInstance, redis: Redis | undefined, database: Database): OrderCache {
  const storage = openStorage(app, redis)
  const cache = createCache({ ttl, storage: { type: 'custom', options: { storage } } })
    .define('order', async (id: string): Promise<Order | null> => {
      const { rows: [order] } = await database.query<Order>('select id, item from orders where id = $1', [id])
      return order ?? null
    })

  return {
    find: id => cache.order(id),
    // The name and the tilde are how the library builds its keys.
    store: order => storage.set(`order~${order.id}`, order, ttl),
    get place () { return storage.place }
  }
}

type Storage = StorageInterface & { readonly place: 'redis' | 'memory' }

/** Chooses for each call: Redis while it answers, else the memory. */
function openStorage (app: FastifyInstance, redis: Redis | undefined): Storage {
  const memory = createStorage('memory', { size: 1_000 })
  if (redis === undefined) return Object.assign(memory, { place: 'memory' as const })
  let pausedUntil = 0
  const shared = createStorage('redis', {
    client: redis,
    log: {
      debug () {},
      warn: ({ msg }) => app.log.warn(msg),
      // A Redis that is frozen keeps its connection. Without a pause, each request would wait for `commandTimeout`.
      error: () => { pausedUntil = performance.now() + pause }
    }
  })
  const answers = (): boolean => redis.status === 'ready' && performance.now() >= pausedUntil
  const current = (): StorageInterface => answers() ? shared : memory

  return {
    get place () { return answers() ? 'redis' as const : 'memory' as const },
    get: key => current().get(key),
    set: (key, value, seconds, references) => current().set(key, value, seconds, references),
    remove: key => current().remove(key),
    invalidate: references => current().invalidate(references),
    clear: name => current().clear(name),
    refresh: () => current().refresh(),
    getTTL: key => current().getTTL(key),
    exists: key => current().exists(key)
  }
}
