/**
 * Lesson 6: leave the service registry when lame-duck begins, and notify the other services, which then send their
 * requests elsewhere. The registry is a Redis set, and the messages use Redis pub/sub. `REDIS_URL` names the Redis,
 * else it is local.
 */
import Fastify, { type FastifyInstance } from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { Redis } from 'ioredis'

const url = process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379'
const service = `lesson-6-${process.pid}`

/** The service: leaves the registry and notifies its peers. */
async function announce (app: FastifyInstance, { address }: { readonly address: string }): Promise<void> {
  const redis = new Redis(url)
  await redis.sadd(service, address)
  const leave = async (): Promise<void> => {
    await redis.srem(service, address)
    await redis.publish(service, JSON.stringify({ address, phase: app.shutdownState.phase }))
  }
  // `pause` runs when lame-duck begins, and the shutdown waits for it. `close` runs in cleaning.
  app.shutdown.resource('registry', { pause: leave, close: async () => { await redis.quit() }, force: () => redis.disconnect() })
}

/** A peer: removes the service from its list when the message arrives. */
async function peer (): Promise<{ readonly known: Set<string>, readonly message: Promise<string>, close(): Promise<void> }> {
  const [redis, subscriber] = [new Redis(url), new Redis(url)]
  const known = new Set<string>()
  const message = new Promise<string>(resolve => subscriber.on('message', (_channel, text) => {
    const { address, phase } = JSON.parse(text) as { address: string, phase: string }
    known.delete(address)
    resolve(phase)
  }))
  // Subscribe first, then read the list. In the other order, a message in between would be lost.
  await subscriber.subscribe(service)
  for (const address of await redis.smembers(service)) known.add(address)
  return { known, message, close: async () => { await Promise.all([redis.quit(), subscriber.quit()]) } }
}

async function main (): Promise<void> {
  const address = 'http://127.0.0.1:3000'
  const app = Fastify()
  await app.register(gracefulShutdown, { delay: 200 })
  await app.register(announce, { address })
  await app.listen({ port: 0, host: '127.0.0.1' })

  const other = await peer()
  console.log('the peer knows', other.known.size)
  const gone = app.shutdown.start('lesson 6')
  console.log('the peer hears of phase', await other.message, 'and knows', other.known.size)
  await other.close()
  await gone
}

void main()
