/** Checks a value from JSON field by field, and turns it into a report. Never throws. */
import type { ErrorData, HookData, ReportData, ResourceData, TaskData } from './report-data'

/** The version of the report that this package writes and reads. */
export const schemaVersion = 1

/** Longest time that is kept, in milliseconds (31 years), so that the numbers of a picture are finite. */
const longestTime = 1e12

/** Longest string that is kept, in UTF-16 code units. */
const longestText = 10_000

/** Most samples that are kept. A report has at most 200. */
const mostSamples = 1_000

type Fields = Readonly<Record<string, unknown>>

/**
 * Returns the report, `'later'` for a report of a later schema version, or `null` for any other value. A report has an
 * outcome, a duration and a list of phases. Every other field may be missing or wrong, and gets an empty value.
 */
export function checkReport (value: unknown): ReportData | 'later' | null {
  const report = fields(value)
  const { schemaVersion: version, outcome, phases, durationMs } = report
  if (typeof version === 'number' && version > schemaVersion && 'outcome' in report) return 'later'
  if (!isOneOf(outcome, outcomes) || !Array.isArray(phases) || typeof durationMs !== 'number') return null

  const checkedPhases = items(phases, phase => ({
    phase: text(phase.phase, 'unknown'), ...span(phase), outcome: oneOf(phase.outcome, outcomes)
  }))
  // Without a version, the times of resources and hooks count from the beginning of the teardown.
  const isOld = version === undefined
  const teardownMs = isOld ? checkedPhases.find(({ phase }) => phase === 'cleaning')?.startedMs ?? 0 : 0
  const requests = fields(report.requests)
  return {
    reason: { kind: text(fields(report.reason).kind), detail: text(fields(report.reason).detail) },
    outcome,
    exitCode: report.exitCode === 0 ? 0 : 1,
    startedAt: text(report.startedAt),
    durationMs: duration(durationMs),
    phases: checkedPhases,
    inFlight: items(report.inFlight, sample => ({
      atMs: time(sample.atMs), ...counts(sample, ['requests', 'streams', 'webSockets'])
    })).slice(0, mostSamples),
    requests: {
      ...counts(requests, ['completed', 'rejected', 'aborted']),
      cut: items(requests.cut, cut => ({
        method: text(cut.method),
        route: text(cut.route),
        ageMs: typeof cut.ageMs === 'number' ? duration(cut.ageMs) : null,
        category: text(cut.category),
        waitsFor: oneOf(cut.waitsFor, ['app', 'client'])
      }))
    },
    streams: counts(report.streams, ['ended', 'cut']),
    webSockets: counts(report.webSockets, ['closed', 'terminated']),
    http2Sessions: counts(report.http2Sessions, ['closed', 'destroyed']),
    sockets: counts(report.sockets, ['idle', 'silent', 'destroyed']),
    tasks: items(report.tasks, (task): TaskData => ({
      name: text(task.name),
      outcome: oneOf(task.outcome, ['completed', 'cancelled', 'failed', 'abandoned']),
      startedMs: typeof task.startedMs === 'number' ? time(task.startedMs) : null,
      durationMs: duration(task.durationMs)
    })),
    resources: items(report.resources, (resource): ResourceData => ({
      name: text(resource.name),
      outcome: oneOf(resource.outcome, ['closed', 'forced', 'failed', 'abandoned']),
      ...span(resource, teardownMs),
      waitedFor: texts(resource.waitedFor),
      error: error(resource.error)
    })),
    hooks: items(report.hooks, (hook): HookData => ({
      hook: oneOf(hook.hook, ['onClose', 'preClose']),
      name: text(hook.name),
      outcome: oneOf(hook.outcome, ['closed', 'failed', 'abandoned']),
      ...span(hook, teardownMs),
      error: error(hook.error)
    })),
    errors: Array.isArray(report.errors) ? report.errors.flatMap(each => error(each) ?? []) : [],
    criticalPath: texts(report.criticalPath)
  }
}

const outcomes = ['clean', 'forced', 'failed'] as const

/** Returns the fields of an object, and none of any other value. */
export function fields (value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value as Fields : {}
}

function items<T> (value: unknown, check: (item: Fields) => T): T[] {
  return Array.isArray(value) ? value.map(item => check(fields(item))) : []
}

function texts (value: unknown): string[] {
  return Array.isArray(value) ? value.filter(item => typeof item === 'string').map(item => text(item)) : []
}

function text (value: unknown, otherwise = ''): string {
  return typeof value === 'string' ? value.slice(0, longestText) : otherwise
}

function time (value: unknown): number {
  return typeof value === 'number' ? Math.max(-longestTime, Math.min(value, longestTime)) || 0 : 0
}

function duration (value: unknown): number {
  return Math.max(0, time(value))
}

function span ({ startedMs, durationMs }: Fields, offset = 0): { startedMs: number, durationMs: number } {
  return { startedMs: time(startedMs) + offset, durationMs: duration(durationMs) }
}

function counts<Name extends string> (value: unknown, names: readonly Name[]): Record<Name, number> {
  const given = fields(value)
  return Object.fromEntries(names.map(name => [name, Math.round(duration(given[name]))])) as Record<Name, number>
}

function isOneOf<T extends string> (value: unknown, words: readonly T[]): value is T {
  return (words as readonly unknown[]).includes(value)
}

/** Returns a word of the list. An unknown word becomes the last one, which is the worst. */
function oneOf<T extends string> (value: unknown, words: readonly [...T[], T]): T {
  return isOneOf(value, words) ? value : words[words.length - 1] as T
}

/** Returns an error. Old log lines have only its message. */
function error (value: unknown): ErrorData | null {
  if (typeof value === 'string') return { name: 'Error', message: text(value), code: '' }
  const { name, message, code } = fields(value)
  if (typeof message !== 'string' && typeof name !== 'string') return null
  return { name: text(name, 'Error'), message: text(message), code: text(code) }
}
