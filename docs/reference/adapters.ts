/**
 * The names of `fastify-shutdown/adapters`.
 *
 * @module
 */
export * from '../../lib/resources/adapters/index'
