/**
 * The server of every contender: the contender is registered first, as its README requires, then the routes.
 * Fastify comes from the package's root: lightship brings an older one into bench/node_modules.
 */
import { createRequire } from 'node:module'
import { load } from './contenders.mjs'

const require = createRequire(new URL('../../package.json', import.meta.url))

/** From the build, as a user would: `npm run bench` builds first. */
export const loadShutdown = () => require('./dist/lib/index.js')
export const loadFastify = () => require('fastify')

const schema = { response: { 200: { type: 'object', properties: { hello: { type: 'string' } } } } }

/**
 * @param name a contender
 * @param options.delay how long it serves on after the signal, in milliseconds, default 0
 * @param options.fastify options of Fastify
 * @param options.plugin options of fastify-shutdown
 */
export async function createApp (name, { delay = 0, fastify = {}, plugin = {} } = {}) {
  const app = loadFastify()({ logger: false, ...fastify })
  /** When the last slow answer was handed over whole, on the clock that all processes of one machine share. */
  const measured = { answeredAt: null, closedAt: null }
  app.decorate('measured', measured)
  const closeApp = app.close
  app.close = (...args) => {
    const closed = closeApp.apply(app, args)
    closed.then(() => { measured.closedAt = monotonic() }, () => {})
    return closed
  }
  const { install } = await load(name)
  await install(app, { delay, plugin })
  app.get('/', { schema }, (request, reply) => { reply.send({ hello: 'world' }) })
  // Ends when its client leaves, as a handler should. A detached handler is still in flight.
  app.get('/held', (request, reply) => new Promise(resolve => reply.raw.once('close', () => resolve('gone'))))
  app.get('/slow/:ms', (request, reply) => {
    reply.raw.once('finish', () => { measured.answeredAt = monotonic() })
    setTimeout(() => reply.send({ hello: 'world' }), Number(request.params.ms))
  })
  return app
}

/** Milliseconds on CLOCK_MONOTONIC, the same in all processes. */
export const monotonic = () => Number(process.hrtime.bigint()) / 1e6
