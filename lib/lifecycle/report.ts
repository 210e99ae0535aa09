/**
 * The report of a shutdown, as one frozen object. `start()` resolves to it, and `onReport` and the last log line
 * contain it.
 */
import { ShutdownTeardownError } from '../errors'
import { withErrorJson } from '../util/error-json'
import type {
  HookResult, InFlightSample, Outcome, PhaseResult, ResourceResult, ShutdownReason, ShutdownReport
} from '../../types/index'

/** The data of a shutdown that the lifecycle and the resources record. */
export interface ShutdownRecord {
  readonly reason: ShutdownReason
  readonly startedAt: Date
  readonly durationMs: number
  readonly phases: readonly PhaseResult[]
  readonly inFlight: readonly InFlightSample[]
  readonly resources: readonly ResourceResult[]
  readonly hooks: readonly HookResult[]
  readonly criticalPath: readonly string[]
  /** The errors that are not those of a resource or a hook: a crash, a task, a listener, our own code. */
  readonly problems: readonly Error[]
}

/** The data of a shutdown that the traffic and the tasks count. */
export interface Counts
  extends Pick<ShutdownReport, 'requests' | 'streams' | 'webSockets' | 'http2Sessions' | 'sockets' | 'tasks'> {
  /** How many requests and streams were cut while the app worked on them. */
  readonly cutAtWork: number
}

/** The counts of a server without traffic. */
export const noCounts: Omit<Counts, 'tasks'> = {
  requests: { completed: 0, rejected: 0, aborted: 0, cut: [] },
  streams: { ended: 0, cut: 0 },
  webSockets: { closed: 0, terminated: 0 },
  http2Sessions: { closed: 0, destroyed: 0 },
  sockets: { idle: 0, silent: 0, destroyed: 0 },
  cutAtWork: 0
}

/** Builds the report, with its outcome and its exit code. */
export function createReport (record: ShutdownRecord, counts: Counts): ShutdownReport {
  const { cutAtWork, ...counted } = counts
  const errors = [...record.problems, ...failuresOf(record)]
  const outcome = outcomeOf(record, counts, errors)
  return frozen({
    schemaVersion: 1,
    reason: record.reason,
    outcome,
    // A client that does not read, or does not send the rest of its request, is not the fault of the service.
    exitCode: outcome === 'failed' || cutAtWork > 0 ? 1 : 0,
    startedAt: record.startedAt.toISOString(),
    durationMs: record.durationMs,
    phases: record.phases,
    inFlight: record.inFlight,
    ...counted,
    resources: record.resources,
    hooks: record.hooks,
    errors: Object.freeze(errors),
    criticalPath: record.criticalPath
  })
}

/** Returns one error for each resource and hook that did not close, with its name. */
export function failuresOf (report: Pick<ShutdownReport, 'resources' | 'hooks'>): Error[] {
  const failed = [
    ...report.resources.map(result => ({ ...result, kind: 'Resource' })),
    ...report.hooks.map(result => ({ ...result, kind: `The ${result.hook} hook of` }))
  ].filter(({ outcome }) => outcome === 'failed' || outcome === 'abandoned')
  return failed.map(({ kind, name, outcome, error }) => {
    const what = outcome === 'failed' ? `failed: ${error?.message ?? ''}` : `was abandoned: ${error?.message ?? ''}`
    const { code } = error as NodeJS.ErrnoException ?? {}
    const failure = new Error(`${kind} '${name}' ${what}`, { cause: error })
    return withErrorJson(Object.assign(failure, { resource: name }, typeof code === 'string' ? { code } : {}))
  })
}

/** Returns the error with which `app.close()` rejects, or `null` if every resource and hook has closed. */
export function teardownError (
  resources: readonly ResourceResult[], hooks: readonly HookResult[]
): ShutdownTeardownError | null {
  const failures = failuresOf({ resources, hooks })
  return failures.length === 0 ? null : new ShutdownTeardownError(failures)
}

function outcomeOf ({ phases }: ShutdownRecord, { requests, streams }: Counts, errors: readonly Error[]): Outcome {
  const outcomes = new Set(phases.map(phase => phase.outcome))
  if (outcomes.has('failed') || errors.length > 0) return 'failed'
  // The app may have cut a request by its id, outside of any phase.
  return outcomes.has('forced') || requests.cut.length > 0 || streams.cut > 0 ? 'forced' : 'clean'
}

/**
 * Copies a value and freezes the copy, at all levels. It is a copy because the lists may still grow. A frozen value is
 * not copied: the results of resources and hooks contain errors, which may be thrown again, and the `detail` of a
 * resource, which may be any value.
 */
function frozen<T> (value: T): T
function frozen (value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  if (Array.isArray(value)) return Object.freeze(value.map(frozen))
  return Object.freeze(Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, frozen(inner)])))
}
