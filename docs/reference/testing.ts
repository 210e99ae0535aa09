/**
 * The names of `fastify-shutdown/testing`.
 *
 * @module
 */
export * from '../../lib/testing/index'
