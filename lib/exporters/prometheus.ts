/**
 * Metrics for Prometheus: entry point `fastify-shutdown/prometheus`. It needs prom-client or @platformatic/prom-client.
 *
 * @example
 * await app.register(gracefulShutdown, { exporters: [prometheus({ registry })] })
 */
import type { Exporter } from '../../types/index'
import { toError } from '../errors'
import { checkNames, isPlainObject, throwInvalid } from '../checks'
import { findClient, type PrometheusClient, type PrometheusRegistry } from './prometheus-client'
import { metricsOf } from './prometheus-metrics'
import { checkPushgateway, push, type Pushgateway } from './pushgateway'
import { checkTextfile, replaceTextfile } from './textfile'

export type { MetricOptions, PrometheusClient, PrometheusRegistry } from './prometheus-client'
export type { Pushgateway } from './pushgateway'
export type { Labels } from './readings'

/** Options of `prometheus()`. */
export interface PrometheusOptions {
  /** Where the metrics are registered. Several apps may share it. @default the client's own registry */
  readonly registry?: PrometheusRegistry
  /** The client module. @default prom-client or @platformatic/prom-client: the one that has created `registry` */
  readonly client?: PrometheusClient
  /**
   * Labels of all metrics of this app. Apps that share a registry must use the same names. Apps with equal labels are
   * summed. @default {}
   */
  readonly labels?: Readonly<Record<string, string>>
  /** Pushes all metrics of the registry after the report, within 900 ms. */
  readonly pushgateway?: Pushgateway
  /**
   * Writes all metrics of the registry after the report to this file, for the textfile collector of node-exporter. The
   * folder must exist, and the name ends in `.prom`.
   */
  readonly textfile?: string
}

/** Labels that the metrics use themselves. */
const ownLabels = ['phase', 'kind', 'resource', 'outcome', 'le']

/**
 * Creates the exporter. A push or a file that fails is logged, and does not change the outcome, because the report is
 * already published.
 *
 * @throws FST_ERR_SHUTDOWN_PEER if no client is installed, FST_ERR_SHUTDOWN_OPTION for a wrong option
 */
export function prometheus (options: PrometheusOptions = {}): Exporter {
  checkOptions(options)
  const { labels = {}, pushgateway, textfile } = options
  const client = options.client ?? findClient(options.registry)
  const registry = options.registry ?? client.register
  return {
    name: 'prometheus',
    start ({ state, listen }) {
      const { readings, observe } = metricsOf(client, registry, Object.keys(labels).sort())
      const endReading = readings.add(labels, state)
      const stop = listen(observe(labels))
      return async () => {
        stop()
        endReading()
        if (pushgateway === undefined && textfile === undefined) return
        const text = await registry.metrics()
        // Both are tried, also if one of them fails.
        const settled = await Promise.allSettled([
          pushgateway === undefined ? null : push(pushgateway, registry.contentType, text),
          textfile === undefined ? null : replaceTextfile(textfile, text)
        ])
        const errors = settled.flatMap(each => each.status === 'rejected' ? [toError(each.reason)] : [])
        if (errors.length === 1) throw errors[0]
        if (errors.length > 1) throw new AggregateError(errors, errors.map(({ message }) => message).join('; '))
      }
    }
  }
}

function checkOptions (options: PrometheusOptions): void {
  checkNames(
    "the options of 'prometheus'", options, ['registry', 'client', 'labels', 'pushgateway', 'textfile'], 'an option'
  )
  const { registry, client, labels = {}, pushgateway, textfile } = options
  if (client !== undefined && typeof client?.Gauge !== 'function') {
    throwInvalid('client', 'the module prom-client', client)
  }
  if (registry !== undefined && typeof registry?.getSingleMetric !== 'function') {
    throwInvalid('registry', 'a Registry of prom-client', registry)
  }
  if (!isPlainObject(labels)) throwInvalid('labels', 'an object of name -> value', labels)
  for (const [name, value] of Object.entries(labels)) {
    if (ownLabels.includes(name) || !/^(?!__)[a-zA-Z_]\w*$/.test(name)) {
      throwInvalid('labels', `names of labels other than ${ownLabels.join(', ')}`, name)
    }
    if (typeof value !== 'string') throwInvalid(`labels.${name}`, 'a string', value)
  }
  if (pushgateway !== undefined) checkPushgateway(pushgateway)
  if (textfile !== undefined) checkTextfile(textfile)
}
