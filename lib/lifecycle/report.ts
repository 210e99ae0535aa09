/** The report: what happened in a shutdown, as one frozen object. `start()`, `onReport` and the last log line use it. */
import type { CutRequest, HookResult, Outcome, PhaseResult, ResourceResult, ShutdownReason, ShutdownReport, TaskResult } from '../../types/index'

/** What the lifecycle knows of a shutdown, before it becomes a report. */
export interface Story {
  readonly reason: ShutdownReason
  readonly startedAt: Date
  readonly durationMs: number
  readonly phases: readonly PhaseResult[]
  readonly resources: readonly ResourceResult[]
  readonly hooks: readonly HookResult[]
  readonly criticalPath: readonly string[]
}

/** What the traffic and the tasks count. */
export interface Counts {
  readonly requests: { readonly completed: number, readonly rejected: number, readonly aborted: number, readonly cut: readonly CutRequest[] }
  readonly streams: { readonly ended: number, readonly cut: number }
  readonly webSockets: { readonly closed: number, readonly terminated: number }
  readonly http2Sessions: { readonly closed: number, readonly destroyed: number }
  readonly sockets: { readonly idle: number, readonly silent: number, readonly destroyed: number }
  readonly tasks: readonly TaskResult[]
  /** Whether an uncaught exception or an unhandled rejection has occurred. */
  readonly crashed: boolean
}

/** Builds the report, with its outcome and its exit code. */
export function createReport (story: Story, counts: Counts): ShutdownReport {
  const outcome = outcomeOf(story, counts)
  const { crashed, ...counted } = counts
  return frozen({
    reason: story.reason,
    outcome,
    exitCode: outcome === 'clean' && !crashed ? 0 : 1,
    startedAt: story.startedAt.toISOString(),
    durationMs: story.durationMs,
    phases: story.phases,
    ...counted,
    resources: story.resources,
    hooks: story.hooks,
    criticalPath: story.criticalPath
  })
}

/** The resources and hooks that did not close, as errors that name them. */
export function failuresOf (report: ShutdownReport): Error[] {
  const failed = [
    ...report.resources.map(result => ({ ...result, kind: 'Resource' })),
    ...report.hooks.map(result => ({ ...result, kind: 'The onClose hook of' }))
  ].filter(({ outcome }) => outcome === 'failed' || outcome === 'abandoned')
  return failed.map(({ kind, name, outcome, error }) => {
    const what = outcome === 'failed' ? `failed: ${error?.message ?? ''}` : `was abandoned: ${error?.message ?? ''}`
    return Object.assign(new Error(`${kind} '${name}' ${what}`, { cause: error }), { resource: name })
  })
}

function outcomeOf ({ phases }: Story, { requests, streams }: Counts): Outcome {
  const outcomes = new Set(phases.map(phase => phase.outcome))
  if (outcomes.has('failed')) return 'failed'
  // The app may have cut a request by its id: no phase did it, but the request was cut.
  return outcomes.has('forced') || requests.cut.length > 0 || streams.cut > 0 ? 'forced' : 'clean'
}

/**
 * Copies a value and freezes the copy to its last level, because the lists in it may still grow. A frozen value is not copied:
 * results of resources and hooks hold errors, which may be thrown again, and the `detail` of a resource, which may be anything.
 */
function frozen<T> (value: T): T
function frozen (value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  if (Array.isArray(value)) return Object.freeze(value.map(frozen))
  return Object.freeze(Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, frozen(inner)])))
}
