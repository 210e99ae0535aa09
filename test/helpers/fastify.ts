/** The Fastify that the socket tests run against. `FASTIFY_MODULE` names another one, as `npm run test:matrix` does. */
import type { fastify } from 'fastify'

export const Fastify = require(process.env.FASTIFY_MODULE ?? 'fastify') as typeof fastify
