/** Those who listen: started once at registration, each disturbing nobody when it fails. */
import type { Exporter, ExporterSource } from '../../types/index'
import { within } from '../util/time'
import { ShutdownTimeoutError } from '../errors'

/** An exporter that hangs must not hold the exit, in milliseconds. */
const flushTime = 1_000

/** @returns what ends them all, after the report */
export function startExporters (exporters: readonly Exporter[], source: ExporterSource, onProblem: (message: string, error: unknown) => void): () => Promise<void> {
  const undos = exporters.map(exporter => {
    try {
      return { exporter, undo: exporter.start(source) }
    } catch (error) {
      onProblem(`Exporter '${exporter.name}' did not start`, error)
      return { exporter, undo: undefined }
    }
  })
  return async () => {
    await Promise.all(undos.map(async ({ exporter, undo }) => {
      const settled = await within(flushTime, () => undo?.())
      if (settled.status === 'fulfilled') return
      const error = settled.status === 'rejected' ? settled.reason : new ShutdownTimeoutError(`Exporter '${exporter.name}'`, flushTime)
      onProblem(`Exporter '${exporter.name}' did not end`, error)
    }))
  }
}
