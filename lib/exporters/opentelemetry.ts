/**
 * Traces and metrics for OpenTelemetry: entry point `fastify-shutdown/opentelemetry`. It needs @opentelemetry/api, and
 * an SDK that the app starts first.
 *
 * @example
 * await app.register(gracefulShutdown, { exporters: [opentelemetry()], resources: { telemetry: { client: sdk } } })
 */
import type { Exporter, ExporterSource } from '../../types/index'
import { checkNames, isPlainObject, throwInvalid } from '../checks'
import { findApi, flushProviders, registrationOf, type OpenTelemetryApi } from './opentelemetry-api'
import { metricsOf } from './opentelemetry-metrics'
import { createSpans } from './opentelemetry-spans'

export type {
  Attributes, InstrumentOptions, Meter, Observable, OpenTelemetryApi, Span, SpanOptions, Tracer
} from './opentelemetry-api'

/** Options of `opentelemetry()`. */
export interface OpenTelemetryOptions {
  /** The module @opentelemetry/api, if the app uses another copy of it. @default the copy that the plugin finds */
  readonly api?: OpenTelemetryApi
  /**
   * Attributes of all spans and metrics of this app. Metrics of apps with the same attributes are summed. @default {}
   */
  readonly attributes?: Readonly<Record<string, string>>
}

/** The metrics of one app. */
interface StartedMetrics {
  readonly observe: Parameters<ExporterSource['listen']>[0]
  endReading(): void
}

/**
 * Creates the exporter. The spans end right before the first resource that is `last` closes, because the SDK is such a
 * resource. Without one, they end with the report, and the exporter flushes the SDK.
 *
 * @throws FST_ERR_SHUTDOWN_PEER if @opentelemetry/api is not installed, FST_ERR_SHUTDOWN_OPTION for a wrong option
 */
export function opentelemetry (options: OpenTelemetryOptions = {}): Exporter {
  checkOptions(options)
  const { attributes = {} } = options
  const api = options.api ?? findApi()
  return {
    name: 'opentelemetry',
    start ({ state, log, listen }) {
      const spans = createSpans(api, attributes, () => state.reason !== null)
      let metrics: StartedMetrics | null = null
      let mustFlush = false
      const stop = listen(event => {
        // The SDK has started when the app is ready, or when it shuts down before.
        if (event.type === 'platform') logRegistration(api, log)
        if (event.type === 'platform' || event.type === 'phase') metrics ??= startMetrics(state)
        if (event.type === 'report') mustFlush = !spans.isOver
        spans.add(event)
        metrics?.observe(event)
      })
      return async () => {
        stop()
        spans.end()
        metrics?.endReading()
        if (mustFlush) await flushProviders(api)
      }
    }
  }

  function startMetrics (state: ExporterSource['state']): StartedMetrics {
    const { readings, observe } = metricsOf(api)
    return { endReading: readings.add(attributes, state), observe: observe(attributes) }
  }
}

/** Logs why no span can be exported. It is a warning only if there is an SDK. */
function logRegistration (api: OpenTelemetryApi, log: ExporterSource['log']): void {
  const { status, version } = registrationOf(api)
  if (status === 'none') {
    log.info('shutdown: no OpenTelemetry SDK has started, so the shutdown is not traced')
  } else if (status === 'incompatible') {
    log.warn(
      `shutdown: the OpenTelemetry SDK uses @opentelemetry/api ${version}, and the plugin found a newer copy, which ` +
      'ignores this SDK. No span is exported. Install one version for both, or pass yours: opentelemetry({ api })'
    )
  }
}

function checkOptions (options: OpenTelemetryOptions): void {
  checkNames("the options of 'opentelemetry'", options, ['api', 'attributes'], 'an option')
  const { api, attributes = {} } = options
  if (api !== undefined && typeof api?.trace?.getTracer !== 'function') {
    throwInvalid('api', 'the module @opentelemetry/api', api)
  }
  if (!isPlainObject(attributes)) throwInvalid('attributes', 'an object of name -> value', attributes)
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value !== 'string') throwInvalid(`attributes.${name}`, 'a string', value)
  }
}
