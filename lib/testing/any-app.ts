/** An app of any server, logger and type provider. */
import type { FastifyInstance } from 'fastify'

/** An instance of Fastify, also with HTTP/2, TLS, or a logger of its own. */
// any: Fastify's parameters are invariant, so no other type takes every instance.
export type AnyApp = FastifyInstance<any, any, any, any, any>
