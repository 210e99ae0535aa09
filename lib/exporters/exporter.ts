/**
 * Starts the exporters at registration, and ends them after the report. An exporter that fails does not affect the
 * others.
 */
import type { Exporter, ExporterSource } from '../../types/index'
import { errorOf, within } from '../util/time'
import type { OnProblem } from '../lifecycle/problems'

/** Longest time an exporter may take to end, in milliseconds. */
const endTimeout = 1_000

/**
 * Starts each exporter with the same source.
 *
 * @param onProblem called for each exporter that does not start or end
 * @returns a function that ends all exporters in parallel. It never rejects, and resolves after at most 1 000 ms
 */
export function startExporters (
  exporters: readonly Exporter[], source: ExporterSource, onProblem: OnProblem
): () => Promise<void> {
  const started = exporters.map(exporter => {
    try {
      return { name: exporter.name, end: exporter.start(source) }
    } catch (error) {
      onProblem(`Exporter '${exporter.name}' did not start`, error)
      return { name: exporter.name, end: undefined }
    }
  })
  return async () => {
    await Promise.all(started.map(async ({ name, end }) => {
      const settled = await within(endTimeout, () => end?.())
      if (settled.status === 'fulfilled') return
      onProblem(`Exporter '${name}' did not end`, errorOf(settled, `Exporter '${name}'`, endTimeout))
    }))
  }
}
