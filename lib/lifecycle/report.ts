/** What happened, as one frozen object: for `start()`, for `onReport`, and for the last line of the log. */
import type { CutRequest, HookResult, Outcome, PhaseResult, ResourceResult, ShutdownReason, ShutdownReport, TaskResult } from '../../types/index'

/** What happened, before it becomes a report. */
export interface Story {
  readonly reason: ShutdownReason
  readonly startedAt: Date
  readonly durationMs: number
  readonly phases: readonly PhaseResult[]
  readonly resources: readonly ResourceResult[]
  readonly hooks: readonly HookResult[]
  readonly criticalPath: readonly string[]
}

export interface Counts {
  readonly requests: { readonly completed: number, readonly rejected: number, readonly aborted: number, readonly cut: readonly CutRequest[] }
  readonly streams: { readonly ended: number, readonly cut: number }
  readonly webSockets: { readonly closed: number, readonly terminated: number }
  readonly http2Sessions: { readonly closed: number, readonly destroyed: number }
  readonly sockets: { readonly idle: number, readonly silent: number, readonly destroyed: number }
  readonly tasks: readonly TaskResult[]
  /** An uncaught exception or unhandled rejection came in. */
  readonly crashed: boolean
}

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

/** What did not close, as errors that each name their resource or hook. */
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
  // What the app has cut by its id meanwhile was no phase's doing, but it was cut.
  return outcomes.has('forced') || requests.cut.length > 0 || streams.cut > 0 ? 'forced' : 'clean'
}

/**
 * A copy, frozen to the last level: the lists that it is made of may still grow. What is frozen already stays as it is: results
 * of resources and hooks hold errors, which may be rethrown, and what a resource told of itself, which may be anything.
 */
function frozen<T> (value: T): T
function frozen (value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  if (Array.isArray(value)) return Object.freeze(value.map(frozen))
  return Object.freeze(Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, frozen(inner)])))
}
