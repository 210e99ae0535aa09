/**
 * Writes the events to the app's log: one line for each phase, one line per second with what is pending, and one line
 * for the report. A line of level warn or error reports a cut, a failure, or a setting that should be changed.
 */
import type { FastifyBaseLogger } from 'fastify'
import type { Exporter, ShutdownEvent } from '../../types/index'
import { reportLine } from './report-line'

/** Most items of each list in the line of the report. The report itself is complete. */
const mostListed = 100

/** Creates the exporter to the app's log. */
export function logExporter (log: FastifyBaseLogger): Exporter {
  return {
    name: 'log',
    start: ({ listen }) => listen(event => { write(contain(log), event) })
  }
}

/** Why lame-duck ended. The words are in the line of the next phase. */
const endings = {
  delay: '',
  quiet: ', because no more requests came',
  max: ', because lame-duck reached its longest time while requests still came'
} as const

/** The methods of a log that are used here. */
type Log = Pick<FastifyBaseLogger, 'debug' | 'info' | 'warn' | 'error'>

/** Returns a log whose methods do not reject. An unhandled rejection would be logged, and would reject again. */
function contain (log: FastifyBaseLogger): Log {
  const method = (level: keyof Log) => (...args: unknown[]): void => {
    const result: unknown = (log[level] as (...args: unknown[]) => unknown)(...args)
    if (result instanceof Promise) result.catch(() => {})
  }
  return { debug: method('debug'), info: method('info'), warn: method('warn'), error: method('error') }
}

function write (log: Log, event: ShutdownEvent): void {
  switch (event.type) {
    case 'platform': {
      const { type, notes, warnings, ...shutdown } = event
      log.info({ shutdown }, `graceful shutdown is ready (${shutdown.platform})`)
      for (const note of notes) log.info(`shutdown: ${note}`)
      for (const warning of warnings) log.warn(warning)
      return
    }
    case 'phase':
      log.info(
        {
          shutdown: { phase: event.phase, previous: event.previous, reason: event.reason, atMs: Math.round(event.atMs) }
        },
        `shutdown: ${event.phase}${event.previous === 'lame-duck' ? endings[event.lameDuckEnd ?? 'delay'] : ''}`
      )
      return
    case 'waiting':
      log.info(
        {
          shutdown: {
            phase: event.phase,
            elapsedMs: Math.round(event.elapsedMs),
            remainingMs: Math.round(event.remainingMs),
            pending: event.pending.slice(0, 20),
            count: event.pending.length
          }
        },
        `shutdown: still waiting for ${summary(event.pending)}`
      )
      return
    case 'request-rejected':
    case 'last-resources':
      return
    case 'request-cut':
      log.warn(
        { shutdown: { what: event.what, name: event.name, ageMs: event.ageMs } },
        `shutdown: cut ${event.what} ${event.name}`
      )
      return
    case 'resource':
    case 'hook': {
      const { error, ...result } = event.result
      const line = `shutdown: ${event.type} '${result.name}' ${result.outcome}`
      if (result.outcome === 'closed') log.debug({ shutdown: result }, line)
      else log.error({ shutdown: result, err: error }, line)
      return
    }
    case 'task': {
      const { error, result } = event
      const line = `shutdown: task '${result.name}' ${result.outcome}`
      if (result.outcome === 'completed' || result.outcome === 'cancelled') log.debug({ shutdown: result }, line)
      else log.error({ shutdown: result, err: error }, line)
      return
    }
    case 'problem':
      log.error({ err: event.error }, `shutdown: ${event.message}`)
      return
    case 'report': {
      const { report } = event
      const shutdown = {
        ...report,
        requests: { ...report.requests, cut: first(report.requests.cut) },
        tasks: first(report.tasks),
        resources: first(report.resources),
        hooks: first(report.hooks),
        errors: first(report.errors),
        criticalPath: first(report.criticalPath)
      }
      log[report.exitCode === 0 ? 'info' : 'error']({ shutdown }, reportLine(report))
    }
  }
}

/** Returns the first items of a list, because a line with 100 000 tasks would have megabytes. */
function first<T> (list: readonly T[]): readonly T[] {
  return list.length > mostListed ? list.slice(0, mostListed) : list
}

function summary (pending: readonly string[]): string {
  if (pending.length === 0) return "the server's own connections"
  const more = pending.length > 3 ? ` and ${pending.length - 3} more` : ''
  return pending.slice(0, 3).join(', ') + more
}
