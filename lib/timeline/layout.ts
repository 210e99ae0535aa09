/** Turns a report into rows, bars and marks, in times and words. Drawing them is left to each kind of output. */
import { dependenciesOf, endOf, markCritical, type Dependency } from './dependencies'
import { count } from './format'
import type { ErrorData, InFlightData, ReportData } from './report-data'

/** One row of the picture: a phase, a task, a resource or a hook. */
export interface Bar {
  readonly kind: 'phase' | 'task' | 'resource' | 'hook'
  /** The name, as the critical path has it. */
  readonly name: string
  /** The name, as the picture has it: shorter for a hook, and never empty. */
  readonly label: string
  readonly outcome: string
  /** How bad the outcome is. */
  readonly severity: 'good' | 'forced' | 'failed'
  /** When it began, in milliseconds since the beginning of the shutdown. `null` if it is not known. */
  readonly startedMs: number | null
  readonly durationMs: number
  /** The part that is drawn, in milliseconds. `null` if the beginning is not known. */
  readonly drawn: { readonly fromMs: number, readonly toMs: number } | null
  /** Whether it began before the shutdown, left of the picture. */
  readonly isEarlier: boolean
  readonly isCritical: boolean
  /** Names of the dependants that closed before it. */
  readonly waitedFor: readonly string[]
  readonly error: ErrorData | null
}

/** Rows under one title. */
export interface Group {
  readonly title: string
  readonly bars: readonly Bar[]
  /** How many rows are left out. */
  readonly omitted: number
}

/** What was cut, at one point in time. */
export interface Mark {
  /** The end of draining, because the report does not have the time of each cut, and nothing is cut later. */
  readonly atMs: number
  readonly label: string
}

/** A report as a picture in numbers. */
export interface Layout {
  /** The right end of the picture, in milliseconds. Always above 0. */
  readonly endMs: number
  readonly phases: Group
  /** Rows without the phases, in the order of the picture. Empty groups are left out. */
  readonly groups: readonly Group[]
  readonly dependencies: readonly Dependency[]
  /** In the order of time. Empty if nothing was in flight, or if nothing was recorded. */
  readonly inFlight: readonly InFlightData[]
  /** The highest sum of requests, streams and WebSockets. */
  readonly mostInFlight: number
  readonly cut: Mark | null
}

/**
 * Lays a report out.
 *
 * @param mostBars how many tasks, resources and hooks are drawn. Those on the critical path come first, then those that
 *   failed or were forced, then the longest
 */
export function layOut (report: ReportData, mostBars: number): Layout {
  const phases = report.phases.map(phase => createBar('phase', phase.phase, phase))
  const tasks = report.tasks.map(task => createBar('task', task.name, task))
  const closing = markCritical([
    ...report.resources.map(resource => createBar('resource', resource.name, resource)),
    ...report.hooks.map(hook => createBar(
      'hook', `${hook.hook} hook of ${hook.name}`, hook, `${hook.name} ${hook.hook}`
    ))
  ], report.criticalPath)
  const drawn = new Set([...tasks, ...closing].sort(byImportance).slice(0, mostBars))
  const group = (title: string, bars: readonly Bar[]): Group => {
    const kept = bars.filter(bar => drawn.has(bar)).sort(byStart)
    return { title, bars: kept, omitted: bars.length - kept.length }
  }
  const groups = [group('Tasks', tasks), group('Resources and hooks', closing)]
    .filter(({ bars, omitted }) => bars.length + omitted > 0)
  const endMs = [...phases, ...tasks, ...closing].reduce(
    (end, bar) => Math.max(end, bar.drawn?.toMs ?? 0), report.durationMs
  ) || 1
  const inFlight = report.inFlight.filter(({ atMs }) => atMs >= 0 && atMs <= endMs).sort((a, b) => a.atMs - b.atMs)
  const mostInFlight = inFlight.reduce((most, sample) => Math.max(most, total(sample)), 0)
  return {
    endMs,
    phases: { title: 'Phases', bars: phases.slice(0, 8), omitted: Math.max(0, phases.length - 8) },
    groups,
    dependencies: dependenciesOf(closing.filter(bar => drawn.has(bar))),
    inFlight: mostInFlight === 0 ? [] : inFlight,
    mostInFlight,
    cut: markOf(report, endMs)
  }
}

/** Returns the times at which the axis has a label: 0 and the multiples of 1, 2 or 5 times a power of ten. */
export function ticksOf (endMs: number, most: number): { readonly step: number, readonly times: readonly number[] } {
  const power = 10 ** Math.floor(Math.log10(endMs / most))
  const step = [1, 2, 5, 10].map(factor => factor * power).find(step => endMs / step <= most) ?? 10 * power
  return { step, times: Array.from({ length: Math.floor(endMs / step + 1e-9) + 1 }, (_, index) => index * step) }
}

/** Returns how many requests, streams and WebSockets a sample has. */
export function total ({ requests, streams, webSockets }: InFlightData): number {
  return requests + streams + webSockets
}

/** Returns what was cut, in words: `2 requests`, `1 stream`, … */
export function cutsOf ({ requests, streams, webSockets, http2Sessions }: ReportData): string[] {
  const cuts = [
    [requests.cut.length, 'request'], [streams.cut, 'stream'], [webSockets.terminated, 'WebSocket'],
    [http2Sessions.destroyed, 'HTTP/2 session']
  ] as const
  return cuts.filter(([number]) => number > 0).map(([number, noun]) => count(number, noun))
}

interface Timed {
  readonly outcome: string
  readonly startedMs: number | null
  readonly durationMs: number
  readonly waitedFor?: readonly string[]
  readonly error?: ErrorData | null
}

function createBar (kind: Bar['kind'], name: string, timed: Timed, label = name): Bar {
  const { outcome, startedMs, durationMs, waitedFor = [], error = null } = timed
  return {
    kind,
    name,
    label: label.trim() === '' ? '(no name)' : label,
    outcome,
    severity: severityOf(outcome),
    startedMs,
    durationMs,
    drawn: startedMs === null
      ? null
      : { fromMs: Math.max(0, startedMs), toMs: Math.max(0, startedMs + durationMs) },
    isEarlier: startedMs !== null && startedMs < 0,
    isCritical: false,
    waitedFor,
    error
  }
}

function severityOf (outcome: string): Bar['severity'] {
  if (outcome === 'failed' || outcome === 'abandoned') return 'failed'
  return outcome === 'forced' ? 'forced' : 'good'
}

function markOf (report: ReportData, endMs: number): Mark | null {
  const cuts = cutsOf(report)
  if (cuts.length === 0) return null
  const draining = report.phases.find(({ phase }) => phase === 'draining')
  const atMs = draining === undefined ? report.durationMs : draining.startedMs + draining.durationMs
  return { atMs: Math.max(0, Math.min(atMs, endMs)), label: `${cuts.join(', ')} cut` }
}

function byImportance (a: Bar, b: Bar): number {
  return rank(a) - rank(b) || b.durationMs - a.durationMs
}

function rank ({ severity, isCritical }: Bar): number {
  if (isCritical) return 0
  return { failed: 1, forced: 2, good: 3 }[severity]
}

function byStart (a: Bar, b: Bar): number {
  if (a.startedMs === null || b.startedMs === null) return Number(a.startedMs === null) - Number(b.startedMs === null)
  return a.startedMs - b.startedMs || endOf(a) - endOf(b)
}
