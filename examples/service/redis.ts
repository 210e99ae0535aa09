/** The Redis client of the cache and of the queue. The service also starts, serves and stops while Redis is away. */
import type { FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'
import type { Config } from './variables'

/**
 * Opens a client that reconnects for ever, and whose commands fail at once while Redis is away. The start does not wait
 * for it. @fastify/redis would, and would end the start after ten seconds.
 *
 * @returns `undefined` without REDIS_URL
 */
export function openRedis (app: FastifyInstance, { REDIS_URL }: Config): Redis | undefined {
  if (REDIS_URL === undefined) {
    app.log.warn('REDIS_URL is not set: the cache is in memory, and receipts are written by this process')
    return undefined
  }
  const redis = new Redis(REDIS_URL, {
    connectTimeout: 2_000,
    commandTimeout: 500,
    // A request must not wait for a connection.
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    retryStrategy: attempt => Math.min(attempt * 100, 2_000)
  })
  // Each attempt to reconnect emits an error. Only the first one is logged.
  let isAway = false
  redis.on('error', (error: Error) => {
    if (!isAway) app.log.warn({ err: error }, 'Redis is away: the cache is in memory')
    isAway = true
  })
  redis.on('ready', () => {
    if (isAway) app.log.info('Redis is back')
    isAway = false
  })
  // The cache also reads from the database, which therefore closes later.
  app.shutdown.resource('redis', { client: redis, dependsOn: ['postgres'], timeout: 3_000 })
  return redis
}
