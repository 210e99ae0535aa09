/** The Fastify that the socket tests run against: `FASTIFY_MODULE` names another one, as `npm run test:matrix` does. */
import type { fastify } from 'fastify'

// eslint-disable-next-line @typescript-eslint/no-require-imports -- its name is known only now
export const Fastify = require(process.env.FASTIFY_MODULE ?? 'fastify') as typeof fastify
