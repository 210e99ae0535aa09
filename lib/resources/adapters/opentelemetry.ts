/**
 * OpenTelemetry: NodeSDK, or any provider or processor with `shutdown()`. `shutdown()` exports what is left. It cannot
 * be forced, but its exporters have a timeout of their own (10 s by default). The resource is `last`.
 */
import type { Resource } from '../../../types/index'
import { closeOnce } from './adapter'
import type { Adapter } from './adapter'
import { hasFields, hasMethods, property } from './structure'

/** The part of an SDK or provider that the adapter uses. */
export interface OpenTelemetry {
  shutdown (): Promise<void>
}

/** TracerProvider, MeterProvider, LoggerProvider, SpanProcessor, LogRecordProcessor, exporters, MetricReader. */
const interfaces = [
  ['getTracer'], ['getMeter'], ['getLogger'], ['onStart', 'onEnd'], ['onEmit'], ['export'],
  ['collect', 'setMetricProducer']
]

/** Recognises an OpenTelemetry SDK or provider. */
export const openTelemetryAdapter: Adapter<OpenTelemetry> = {
  kind: 'OpenTelemetry SDK, provider or processor',
  // NodeSDK has no public mark, so its private field is read. The others have the public methods of their interfaces.
  matches: client => hasMethods(client, 'shutdown') &&
    ((hasMethods(client, 'start') && hasFields(client, '_instrumentations')) ||
      (hasMethods(client, 'forceFlush') && interfaces.some(methods => hasMethods(client, ...methods)))),
  adapt: openTelemetry
}

/**
 * Turns an OpenTelemetry SDK or provider into a resource: it is flushed and shut down after all resources that may
 * still create traces.
 */
export function openTelemetry (sdk: OpenTelemetry): Resource {
  return closeOnce({
    last: true,
    close: async () => {
      try {
        if (hasMethods(sdk, 'forceFlush')) await (property(sdk, 'forceFlush') as () => Promise<void>).call(sdk)
      } finally {
        await sdk.shutdown()
      }
    }
  })
}
