/** The metrics of a meter provider. Several apps may share it, so each provider has one set of instruments. */
import type { Phase, ResourceResult, ShutdownEvent } from '../../types/index'
import { createBoundedNames } from './bounded-names'
import { scope, type Attributes, type InstrumentOptions, type OpenTelemetryApi } from './opentelemetry-api'
import { counted, createReadings, kinds, phases, type Labels, type Readings } from './readings'

/** The metrics of one provider. */
export interface OpenTelemetryMetrics {
  /** What the observable instruments return when they are collected. */
  readonly readings: Readings
  /** Returns a listener that records the durations of one shutdown. */
  observe(attributes: Labels): (event: ShutdownEvent) => void
}

const created = new WeakMap<object, OpenTelemetryMetrics>()

/** Boundaries of the durations, in seconds. */
const explicitBucketBoundaries = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60]

/** Returns the metrics of the provider that is registered now, and creates them at the first call. */
export function metricsOf (api: OpenTelemetryApi): OpenTelemetryMetrics {
  const provider = api.metrics.getMeterProvider()
  let metrics = created.get(provider)
  if (metrics === undefined) created.set(provider, metrics = createMetrics(api))
  return metrics
}

function createMetrics (api: OpenTelemetryApi): OpenTelemetryMetrics {
  const meter = api.metrics.getMeter(scope)
  const readings = createReadings()
  const nameOf = createBoundedNames()
  const options = (unit: string, description: string): InstrumentOptions => ({ unit, description })
  const duration = (description: string): InstrumentOptions =>
    ({ ...options('s', description), advice: { explicitBucketBoundaries } })

  const phase = options('1', 'Whether the server is in this phase: 1 if it is, else 0.')
  meter.createObservableGauge('fastify_shutdown.phase', phase).addCallback(result => {
    for (const { labels, phases: values } of readings.read()) {
      for (const phase of phases) result.observe(values[phase], { ...labels, 'fastify_shutdown.phase': phase })
    }
  })
  const inFlight = options('{item}', 'Requests, streams, WebSockets and tasks in flight.')
  meter.createObservableUpDownCounter('fastify_shutdown.in_flight', inFlight).addCallback(result => {
    for (const { labels, inFlight: values } of readings.read()) {
      for (const kind of kinds) result.observe(values[kind], { ...labels, 'fastify_shutdown.kind': kind })
    }
  })
  for (const name of counted) {
    const counter = options('{request}', `Requests that were ${name}.`)
    meter.createObservableCounter(`fastify_shutdown.requests.${name}`, counter).addCallback(result => {
      for (const { labels, requests } of readings.read()) result.observe(requests[name], labels)
    })
  }
  const phaseDuration = meter.createHistogram('fastify_shutdown.phase.duration', duration('Duration of each phase.'))
  const resourceDuration = meter.createHistogram(
    'fastify_shutdown.resource.duration', duration('Time that each resource took to close.')
  )
  const total = meter.createHistogram('fastify_shutdown.duration', duration('Duration of a shutdown.'))
  return { readings, observe }

  function observe (labels: Labels): (event: ShutdownEvent) => void {
    let enteredMs = 0
    let current: Phase = 'running'
    return event => {
      if (event.type === 'phase') enter(event.phase, event.atMs)
      // The SDK collects the metrics for the last time right after this event.
      else if (event.type === 'last-resources') enter('shutdown', event.atMs)
      else if (event.type === 'resource') record(event.result)
    }

    function enter (next: Phase, atMs: number): void {
      if (current === 'shutdown') return
      const attributes: Attributes = { ...labels, 'fastify_shutdown.phase': current }
      if (current !== 'running') phaseDuration.record((atMs - enteredMs) / 1_000, attributes)
      current = next
      enteredMs = atMs
      if (next === 'shutdown') total.record(atMs / 1_000, labels)
    }

    function record ({ name, outcome, durationMs }: ResourceResult): void {
      const own = { 'fastify_shutdown.resource': nameOf(name), 'fastify_shutdown.outcome': outcome }
      resourceDuration.record(durationMs / 1_000, { ...labels, ...own })
    }
  }
}
