/**
 * OpenTelemetry: NodeSDK, or any provider or processor with `shutdown()`. `shutdown()` exports what is left. It cannot
 * be forced, but its exporters have a timeout of their own (10 s by default). The resource is `last`.
 */
import type { Resource } from '../../../types/index'
import { closeOnce, hasMethods, property } from './adapter'
import type { Adapter } from './adapter'

/** The part of an SDK or provider that the adapter uses. */
export interface OpenTelemetry {
  shutdown (): Promise<void>
}

/** Recognises an OpenTelemetry SDK or provider. */
export const openTelemetryAdapter: Adapter<OpenTelemetry> = {
  kind: 'OpenTelemetry SDK or provider',
  matches: client => hasMethods(client, 'shutdown') &&
    (hasMethods(client, 'forceFlush') || hasMethods(client, 'start')),
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
