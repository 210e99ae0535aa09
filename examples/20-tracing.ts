/**
 * Lesson 20: a trace of the shutdown, with one span for each phase, resource and task. The SDK closes last, so that it
 * can export them. This exporter prints the names; a real one sends the spans to a collector.
 */
import { NodeSDK, tracing } from '@opentelemetry/sdk-node'
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-shutdown'
import { opentelemetry } from 'fastify-shutdown/opentelemetry'

const printing: tracing.SpanExporter = {
  export (spans, done) {
    for (const { name } of spans) console.log('span:', name)
    done({ code: 0 })
  },
  shutdown: async () => console.log('the exporter has closed')
}

async function main (): Promise<void> {
  const sdk = new NodeSDK({
    autoDetectResources: false,
    instrumentations: [],
    metricReaders: [],
    spanProcessors: [new tracing.SimpleSpanProcessor(printing)]
  })
  sdk.start()
  const app = Fastify()
  await app.register(gracefulShutdown, {
    exporters: [opentelemetry()],
    resources: { telemetry: { client: sdk }, database: { close: () => {} } }
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  process.kill(process.pid, 'SIGTERM')
}

void main()
