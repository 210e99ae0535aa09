/** The part of prom-client that the metrics use, and the search for the installed client. */
import { loadPeers } from './peer'
import type { Labels } from './readings'

/** A registry of prom-client or @platformatic/prom-client. */
export interface PrometheusRegistry {
  readonly contentType: string
  /** Returns all metrics as text. */
  metrics(): string | Promise<string>
  getSingleMetric(name: string): object | undefined
}

/** Options of a metric. */
export interface MetricOptions {
  readonly name: string
  readonly help: string
  readonly labelNames: string[]
  readonly registers: any[] // any: each client has its own type of registries
  /** Called right before the metric is read. */
  readonly collect?: () => void
  readonly buckets?: number[]
}

/** prom-client or @platformatic/prom-client. */
export interface PrometheusClient {
  readonly register: PrometheusRegistry
  readonly Registry: abstract new (...args: any[]) => object // any: it is only used with `instanceof`
  readonly Gauge: new (options: MetricOptions) => { set(labels: Labels, value: number): void }
  readonly Counter: new (options: MetricOptions) => { inc(labels: Labels, value: number): void, reset(): void }
  readonly Histogram: new (options: MetricOptions) => { observe(labels: Labels, value: number): void }
}

/**
 * Finds the client of a registry. Both clients may be installed, and the metrics must be those of the registry's
 * client.
 *
 * @param registry `undefined` for the first client that is installed
 * @throws FST_ERR_SHUTDOWN_PEER if no client is installed
 */
export function findClient (registry: PrometheusRegistry | undefined): PrometheusClient {
  const clients = loadPeers<PrometheusClient>('prometheus', ['prom-client', '@platformatic/prom-client'])
  return clients.find(({ Registry }) => registry instanceof Registry) ?? clients[0]
}
