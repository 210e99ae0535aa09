/** Metrics for Prometheus at `/metrics`, and traces over OTLP if `OTEL_EXPORTER_OTLP_ENDPOINT` is set. */
import type { FastifyInstance } from 'fastify'
import type gracefulShutdown from 'fastify-shutdown'
import { opentelemetry } from 'fastify-shutdown/opentelemetry'
import { prometheus } from 'fastify-shutdown/prometheus'
import { collectDefaultMetrics, Registry } from 'prom-client'
import type { Config } from './variables'

/** What the shutdown plugin gets, and the route. */
export interface Observability {
  readonly exporters: NonNullable<gracefulShutdown.Options['exporters']>
  readonly resources: NonNullable<gracefulShutdown.Options['resources']>
  addRoutes (app: FastifyInstance): void
}

/** Starts the metrics, and the traces if they are configured. */
export function startObservability (config: Config): Observability {
  // A registry of its own, because one process may build the service twice, as tests do.
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const tracing = startTracing(config)
  return {
    exporters: [prometheus({ registry }), ...tracing === null ? [] : [opentelemetry()]],
    // The adapter is `last`: the SDK exports the spans of the shutdown after everything else has closed.
    resources: tracing === null ? {} : { telemetry: { client: tracing } },
    addRoutes (app) {
      // Exempt: the last values before the exit are the interesting ones.
      app.get('/metrics', { config: { shutdown: { exempt: true } }, schema: { hide: true }, logLevel: 'warn' }, async (_request, reply) => {
        return reply.type(registry.contentType).send(await registry.metrics())
      })
    }
  }
}

/** The SDK reads its own variables: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME and others. */
function startTracing ({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint }: Config): object | null {
  if (endpoint === undefined) return null
  // Loaded only if it is used, because the SDK takes half a second to load.
  const { NodeSDK } = require('@opentelemetry/sdk-node') as typeof import('@opentelemetry/sdk-node')
  const sdk = new NodeSDK()
  sdk.start()
  return sdk
}
