/**
 * OpenTelemetry: NodeSDK, or any provider or processor with `shutdown()`. `shutdown()` exports what is left; it cannot be
 * forced, but its exporters have a timeout of their own (10 s unless set otherwise). Closes last.
 */
import type { Resource } from '../../../types/index'
import { field, has, once } from './adapter'
import type { Adapter } from './adapter'

export interface OpenTelemetry {
  shutdown (): Promise<void>
}

export const openTelemetryAdapter: Adapter<OpenTelemetry> = {
  kind: 'OpenTelemetry SDK or provider',
  matches: client => has(client, 'shutdown') && (has(client, 'forceFlush') || has(client, 'start')),
  adapt: openTelemetry
}

/** An OpenTelemetry SDK or provider as a resource: flushed and shut down after everything that may still be traced. */
export function openTelemetry (sdk: OpenTelemetry): Resource {
  return once({
    last: true,
    close: async () => {
      try {
        if (has(sdk, 'forceFlush')) await (field(sdk, 'forceFlush') as () => Promise<void>).call(sdk)
      } finally {
        await sdk.shutdown()
      }
    }
  })
}
