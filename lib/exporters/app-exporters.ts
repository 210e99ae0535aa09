/** The exporters of one app: its log, diagnostics_channel, and the option `exporters`. */
import type { Exporter, ExporterSource } from '../../types/index'
import type { OnProblem } from '../lifecycle/problems'
import { diagnosticsChannelExporter } from './diagnostics-channel'
import { startExporters } from './exporter'
import { flushLog } from './flush-log'
import { logExporter } from './log'

/**
 * Starts the exporters of an app.
 *
 * @param given the option `exporters`
 * @param onProblem called for each exporter that does not start or end
 * @returns a function that ends the exporters and flushes the log. It never rejects
 */
export function startAppExporters (
  given: readonly Exporter[], source: ExporterSource, onProblem: OnProblem
): () => Promise<void> {
  const { log } = source
  // A subscriber may belong to any library of the process, so its error is not an error of this shutdown.
  const onSubscriberError = (error: unknown): void => {
    log.warn({ err: error }, 'shutdown: a subscriber of diagnostics_channel threw')
  }
  const endOwn = startExporters([logExporter(log), diagnosticsChannelExporter(onSubscriberError)], source, onProblem)
  const endGiven = startExporters(given, source, onProblem)
  return async () => {
    // The given exporters end first, so that the log can report their errors.
    await endGiven()
    await endOwn()
    await flushLog(log)
  }
}
