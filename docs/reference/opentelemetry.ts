/**
 * The names of `fastify-shutdown/opentelemetry`.
 *
 * @module
 */
export * from '../../lib/exporters/opentelemetry'
