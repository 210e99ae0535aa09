/** The part of @opentelemetry/api that the traces and metrics use, and the check that an SDK is registered. */
import { loadPeers } from './peer'

/** Attributes of a span, an event or a measurement. */
export type Attributes = Readonly<Record<string, string | number | boolean>>

/** A span. Times are milliseconds since the epoch. */
export interface Span {
  setAttributes(attributes: Attributes): unknown
  addEvent(name: string, attributes: Attributes, time: number): unknown
  recordException(error: Error, time: number): unknown
  setStatus(status: { readonly code: number, readonly message: string }): unknown
  end(time: number): void
}

/** Options of a span. */
export interface SpanOptions {
  readonly root?: boolean
  readonly startTime: number
  readonly attributes: Record<string, string | number | boolean>
}

/** Creates spans. */
export interface Tracer {
  startSpan(name: string, options: SpanOptions, context?: any): Span // any: a context of the api
}

/** An instrument that is read when metrics are collected. */
export interface Observable {
  addCallback(callback: (result: { observe(value: number, attributes: Attributes): void }) => void): void
}

/** Options of an instrument. */
export interface InstrumentOptions {
  readonly description: string
  readonly unit: string
  readonly advice?: { explicitBucketBoundaries: number[] }
}

/** Creates instruments. */
export interface Meter {
  createObservableGauge(name: string, options: InstrumentOptions): Observable
  createObservableUpDownCounter(name: string, options: InstrumentOptions): Observable
  createObservableCounter(name: string, options: InstrumentOptions): Observable
  createHistogram(name: string, options: InstrumentOptions): { record(value: number, attributes: Attributes): void }
}

/** The module @opentelemetry/api. */
export interface OpenTelemetryApi {
  readonly trace: {
    getTracerProvider(): object
    getTracer(name: string): Tracer
    setSpan(context: any, span: any): unknown // any: types of the api
  }
  readonly metrics: {
    getMeterProvider(): object
    getMeter(name: string): Meter
  }
  readonly ROOT_CONTEXT: object
}

/** Name of the tracer and of the meter. */
export const scope = 'fastify-shutdown'

/** Loads the api. @throws FST_ERR_SHUTDOWN_PEER if @opentelemetry/api is not installed */
export function findApi (): OpenTelemetryApi {
  return loadPeers<OpenTelemetryApi>('opentelemetry', ['@opentelemetry/api'])[0]
}

/** What an SDK registers for all copies of the api in the process. */
interface Registered {
  readonly version?: string
  readonly trace?: object
  readonly metrics?: object
}

/**
 * Returns whether spans reach an SDK, and the version of the api that the SDK has registered. `incompatible`: the SDK
 * has registered an older version than that of this copy of the api, which then ignores it without an error.
 *
 * There is no public function for this. The symbol is that of api 1.x, in `internal/global-utils.ts`.
 */
export function registrationOf (api: OpenTelemetryApi): { status: 'ok' | 'none' | 'incompatible', version: string } {
  const { [Symbol.for('opentelemetry.js.api.1')]: registered } = globalThis as Record<symbol, Registered | undefined>
  const { trace, metrics, version = '' } = registered ?? {}
  if (trace === undefined && metrics === undefined) return { status: 'none', version }
  const isVisible = api.trace.getTracerProvider() === trace || api.metrics.getMeterProvider() === metrics
  return { status: isVisible ? 'ok' : 'incompatible', version }
}

/** Exports what the providers have collected. Rejects if an export fails. */
export async function flushProviders (api: OpenTelemetryApi): Promise<void> {
  const tracers = api.trace.getTracerProvider() as { getDelegate?(): object }
  // The api returns a proxy of the provider that the SDK has registered.
  const tracing = tracers.getDelegate?.() ?? tracers
  const providers: { forceFlush?(): Promise<void> }[] = [tracing, api.metrics.getMeterProvider()]
  await Promise.all(providers.map(provider => provider.forceFlush?.()))
}
