/**
 * The metrics of a registry. Several apps may share a registry, also one after the other, so each registry has one set
 * of metrics. Names and units: https://prometheus.io/docs/practices/naming/.
 */
import type { ShutdownEvent } from '../../types/index'
import { ShutdownOptionError } from '../errors'
import { createBoundedNames } from './bounded-names'
import type { MetricOptions, PrometheusClient, PrometheusRegistry } from './prometheus-client'
import { counted, createReadings, kinds, phases, type Labels, type Readings } from './readings'

type Histogram = InstanceType<PrometheusClient['Histogram']>

/** The metrics of one registry. */
export interface PrometheusMetrics {
  /** The names of the labels of all apps. The client fixes them when a metric is created. */
  readonly labelNames: readonly string[]
  /** What the gauges and counters show when they are collected. */
  readonly readings: Readings
  /** Returns a listener that adds the durations of one shutdown to the histograms. */
  observe(labels: Labels): (event: ShutdownEvent) => void
}

/** Buckets of the durations, in seconds: from a server without traffic to the default of `timeouts.total`. */
const buckets = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60]

const phaseMetric = 'fastify_shutdown_phase'

const helpOf = {
  rejected: 'Requests that were rejected with 503 while the server drained.',
  cut: 'Requests that were cut because their time was up.',
  aborted: 'Requests whose client left before the end of the response.'
} as const

/** The metrics of each registry, by the gauge of the phase that is in it. */
const created = new WeakMap<object, PrometheusMetrics>()

/**
 * Returns the metrics of a registry, and creates them at the first call.
 *
 * @throws FST_ERR_SHUTDOWN_OPTION if another app of the registry has other names of labels
 */
export function metricsOf (
  client: PrometheusClient, registry: PrometheusRegistry, labelNames: readonly string[]
): PrometheusMetrics {
  // If the registry was cleared, the metrics are created again.
  const known = created.get(registry.getSingleMetric(phaseMetric) ?? registry)
  const metrics = known ?? createMetrics(client, registry, labelNames)
  if (labelNames.join() === metrics.labelNames.join()) return metrics
  throw new ShutdownOptionError(
    `Expected 'labels' to have the names that the other app of this registry has (${metrics.labelNames.join(', ')}), ` +
    `got ${labelNames.join(', ')}`
  )
}

function createMetrics (
  client: PrometheusClient, registry: PrometheusRegistry, labelNames: readonly string[]
): PrometheusMetrics {
  const readings = createReadings()
  const nameOf = createBoundedNames()
  const options = (name: string, help: string, ...own: string[]): MetricOptions =>
    ({ name: `fastify_shutdown_${name}`, help, labelNames: [...labelNames, ...own], registers: [registry] })

  const phaseGauge = new client.Gauge({
    ...options('phase', 'Whether the server is in this phase: 1 if it is, else 0.', 'phase'),
    collect () {
      for (const { labels, phases: values } of readings.read()) {
        for (const phase of phases) phaseGauge.set({ ...labels, phase }, values[phase])
      }
    }
  })
  const inFlight = new client.Gauge({
    ...options('in_flight', 'Requests, streams, WebSockets and tasks in flight.', 'kind'),
    collect () {
      for (const { labels, inFlight: values } of readings.read()) {
        for (const kind of kinds) inFlight.set({ ...labels, kind }, values[kind])
      }
    }
  })
  for (const name of counted) {
    const counter = new client.Counter({
      ...options(`requests_${name}_total`, helpOf[name]),
      // The readings never decrease, so each collection may set the counter anew.
      collect () {
        counter.reset()
        for (const { labels, requests } of readings.read()) counter.inc(labels, requests[name])
      }
    })
  }
  const histogram = (name: string, help: string, ...own: string[]): Histogram =>
    new client.Histogram({ ...options(name, help, ...own), buckets })
  const phaseDuration = histogram('phase_duration_seconds', 'Duration of each phase of a shutdown.', 'phase')
  const resourceDuration = histogram(
    'resource_duration_seconds', 'Time that each resource took to close.', 'resource', 'outcome'
  )
  const duration = histogram('duration_seconds', 'Duration of a shutdown.', 'outcome')

  const metrics: PrometheusMetrics = { labelNames, readings, observe }
  created.set(phaseGauge, metrics)
  return metrics

  function observe (labels: Labels): (event: ShutdownEvent) => void {
    let enteredMs = 0
    return event => {
      if (event.type === 'phase') {
        const { previous, atMs } = event
        if (previous !== 'running') phaseDuration.observe({ ...labels, phase: previous }, (atMs - enteredMs) / 1_000)
        enteredMs = atMs
      } else if (event.type === 'resource') {
        const { name, outcome, durationMs } = event.result
        resourceDuration.observe({ ...labels, resource: nameOf(name), outcome }, durationMs / 1_000)
      } else if (event.type === 'report') {
        const { outcome, durationMs } = event.report
        duration.observe({ ...labels, outcome }, durationMs / 1_000)
      }
    }
  }
}
