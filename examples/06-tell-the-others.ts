/**
 * Lesson 6: leave the service registry the moment lame-duck begins, and tell the other services, which then send their
 * requests elsewhere. The registry is a Redis set, the news go over Redis pub/sub: REDIS_URL, or the local one.
 */
import Fastify, { type FastifyInstance } from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { Redis } from 'ioredis'

const url = process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379'
const service = `lesson-6-${process.pid}`

/** What a service does about itself. */
async function announce (app: FastifyInstance, { address }: { readonly address: string }): Promise<void> {
  const redis = new Redis(url)
  await redis.sadd(service, address)
  const leave = async (): Promise<void> => {
    await redis.srem(service, address)
    await redis.publish(service, JSON.stringify({ address, phase: app.shutdownState.phase }))
  }
  // `pause` comes first of all, with lame-duck, and the shutdown waits for it; `close` comes last.
  app.shutdown.resource('registry', { pause: leave, close: async () => { await redis.quit() }, force: () => redis.disconnect() })
}

/** What its peers do about it: they stop sending requests there. */
async function peer (): Promise<{ readonly known: Set<string>, readonly told: Promise<string>, close(): Promise<void> }> {
  const redis = new Redis(url)
  const ears = redis.duplicate()
  const known = new Set<string>()
  const told = new Promise<string>(resolve => ears.on('message', (_channel, text) => {
    const { address, phase } = JSON.parse(text) as { address: string, phase: string }
    known.delete(address)
    resolve(phase)
  }))
  // First the ears, then the list: who leaves in between would be missed the other way round.
  await ears.subscribe(service)
  for (const address of await redis.smembers(service)) known.add(address)
  return { known, told, close: async () => { await Promise.all([redis.quit(), ears.quit()]) } }
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
  console.log('the peer hears of phase', await other.told, 'and knows', other.known.size)
  await other.close()
  await gone
}

void main()
