/**
 * The names of `fastify-shutdown/http`.
 *
 * @module
 */
export * from '../../lib/attach'
