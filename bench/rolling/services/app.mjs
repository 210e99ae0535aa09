/**
 * The service that every contender runs: plain requests, bodies, uploads, streams, WebSockets, and an order that must
 * be in the database once it is acknowledged. Only the shutdown code differs: each contender has a file beside this
 * one.
 */
import { createRequire } from 'node:module'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'

// From the package's root: where `npm run bench` has run, one of its contenders has left an older Fastify on the way
// there.
const require = createRequire(new URL('../../../package.json', import.meta.url))
const Fastify = require('fastify')
const websocket = require('@fastify/websocket')
const pg = require('pg')

/** How long a contender waits with failing readiness before it closes, in milliseconds. Only some of them read it. */
export const delay = Number(process.env.DELAY_MS ?? 0)

/**
 * The peers' own time limit, in milliseconds: longer than anything in flight here, short enough to end a hanging run.
 */
export const timeout = 3_000

export const signals = ['SIGTERM', 'SIGINT']

/** @param {{ first?: (app) => unknown, ready?: (app) => boolean }} contender `first` registers what must come before all else */
export async function createApp ({ first, ready = () => true } = {}) {
  const app = Fastify({ logger: process.env.LOG_LEVEL ? { level: process.env.LOG_LEVEL } : false, bodyLimit: 4 * 1024 * 1024 })
  await first?.(app)
  await app.register(websocket)
  const database = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 4 })
  // An idle client's error is an event without a listener otherwise, and that ends the process.
  database.on('error', () => {})
  app.addHook('onClose', () => database.end())
  app.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))

  app.get('/ready', { config: { shutdown: { exempt: true } } }, (_request, reply) => {
    reply.code(ready(app) ? 200 : 503).send({ ready: ready(app) })
  })
  app.get('/', async () => ({ hello: 'world' }))
  app.get('/slow', async request => {
    await sleep(Number(request.query.ms))
    return { waited: request.query.ms }
  })
  app.post('/echo', async request => ({ length: request.body.text.length }))
  app.post('/uploads', async request => ({ bytes: request.body.length }))
  app.get('/stream', async (_request, reply) => {
    reply.type('text/plain')
    return reply.send(Readable.from(chunks()))
  })
  app.post('/orders', async (request, reply) => {
    await database.query(`INSERT INTO ${process.env.ORDERS_TABLE} (id) VALUES ($1)`, [request.body.id])
    return reply.code(201).send({ id: request.body.id })
  })
  app.get('/ws', { websocket: true }, socket => {
    socket.on('message', message => socket.send(message.toString()))
  })
  return app
}

/** Ten chunks in one second; the last one is marked as the last. */
async function * chunks () {
  for (let n = 0; n < 9; n++) {
    yield `chunk ${n}\n`
    await sleep(110)
  }
  yield 'end\n'
}

export async function listen (app) {
  await app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' })
  // For the harness, and for PM2's wait_ready.
  process.send?.('ready')
}
