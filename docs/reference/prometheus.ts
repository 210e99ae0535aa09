/**
 * The names of `fastify-shutdown/prometheus`.
 *
 * @module
 */
export * from '../../lib/exporters/prometheus'
