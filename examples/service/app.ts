/**
 * A small shop that can be stopped at any moment. Orders go into PostgreSQL, and a copy of each into Redis, if it is
 * there. The code is what a user of the package writes.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import fastifyPostgres from '@fastify/postgres'
import fastifyRedis from '@fastify/redis'
import fastifyWebSocket from '@fastify/websocket'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import gracefulShutdown, { sse } from 'fastify-shutdown'

export interface ServiceOptions {
  readonly databaseUrl: string
  /** Without it, the service runs without a cache and logs a warning. */
  readonly redisUrl?: string | undefined
  readonly logger?: FastifyServerOptions['logger']
  readonly shutdown?: gracefulShutdown.Options
}

interface Order {
  readonly id: string
  readonly item: string
}

const uuid = { type: 'string', format: 'uuid' } as const

export async function buildService ({ databaseUrl, redisUrl, logger = true, shutdown = {} }: ServiceOptions): Promise<FastifyInstance> {
  // Without Fastify's own 503, every late request gets the plugin's, with hooks and error handler.
  const app = Fastify({ logger, return503OnClosing: false })

  // Before all other plugins: what is registered later closes earlier, and its requests are counted.
  await app.register(gracefulShutdown, {
    ...shutdown,
    probes: true, // the routes that deploy/ uses: /health/live, /health/ready, /health/startup
    webSocketMessage: true, // {"type":"close","reason":"server_shutdown"} before the close frame 1001
    // Adopted from @fastify/postgres and @fastify/redis. The cache uses the database, so it closes first.
    ...redisUrl !== undefined && { resources: { postgres: { timeout: 5_000 }, redis: { dependsOn: ['postgres'], timeout: 3_000 } } }
  })

  await app.register(fastifyPostgres, { connectionString: databaseUrl })
  app.pg.pool.on('error', error => app.log.error({ err: error }, 'an idle database connection was lost'))
  // One replica at a time: two that create the same table together fail, even with `if not exists`.
  await app.pg.query(`
    select pg_advisory_xact_lock(1);
    create table if not exists orders (id uuid primary key, item text not null);
    create table if not exists jobs (id uuid primary key, steps integer not null, state text not null)`)

  if (redisUrl === undefined) app.log.warn('REDIS_URL is not set: orders are not cached')
  else await app.register(fastifyRedis, { url: redisUrl })
  const cache = redisUrl === undefined ? null : app.redis

  await app.register(fastifyWebSocket)

  app.addHook('onSend', async (_request, reply) => { reply.header('x-request-duration', `${reply.elapsedTime.toFixed(1)} ms`) })

  app.get('/', async () => ({ hello: 'world' }))

  app.get('/status', async () => app.shutdownState)

  app.get('/fast', async () => {
    await sleep(1_000)
    return { finished: true }
  })

  // Ends early when draining begins: a partial answer now is better than none in ten seconds.
  app.get('/slow', async () => {
    const { signal } = app.shutdownState
    await sleep(10_000, undefined, { signal }).catch(() => {})
    return { finished: !signal.aborted }
  })

  app.post<{ Body: Order }>('/orders', {
    schema: { body: { type: 'object', required: ['id', 'item'], properties: { id: uuid, item: { type: 'string', maxLength: 200 } } } }
  }, async (request, reply) => {
    const { id, item } = request.body
    await sleep(300) // the payment
    // The request is about to be cut, or its client has left: do not write an order that cannot be acknowledged.
    request.shutdownSignal.throwIfAborted()
    await app.pg.query('insert into orders (id, item) values ($1, $2)', [id, item])
    await cache?.set(`order:${id}`, item, 'EX', 60)
    return reply.code(201).send({ id })
  })

  // Answers at once and continues to work. Draining waits for it because of `task`.
  app.post('/background', async (_request, reply) => {
    const id = randomUUID()
    void app.shutdown.task('parcel', signal => packParcel(app, id, signal))
    return reply.code(202).send({ id })
  })

  app.get('/stream', async (_request, reply) => {
    return reply
      .header('content-type', 'text/event-stream')
      .header('cache-control', 'no-store')
      .send(app.shutdown.stream(ticks(20, 500), { end: sse({ data: { type: 'end', reason: 'shutdown' } }) }))
  })

  // Echoes each message. The plugin closes the WebSocket.
  app.get('/ws', { websocket: true }, socket => {
    socket.on('message', message => socket.send(message))
  })

  return app
}

/** Ten steps. When the signal aborts, it finishes the current step and saves its progress. */
async function packParcel (app: FastifyInstance, id: string, signal: AbortSignal): Promise<void> {
  let steps = 0
  while (steps < 10 && !signal.aborted) {
    await sleep(200)
    steps++
  }
  await app.pg.query('insert into jobs (id, steps, state) values ($1, $2, $3)', [id, steps, steps === 10 ? 'finished' : 'saved'])
}

/** Server-sent events, one every `ms` milliseconds. */
async function * ticks (count: number, ms: number): AsyncGenerator<string> {
  for (let tick = 1; tick <= count; tick++) {
    yield `data: ${JSON.stringify({ type: 'tick', tick })}\n\n`
    await sleep(ms)
  }
}
