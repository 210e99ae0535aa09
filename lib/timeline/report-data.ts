/**
 * A report as data, as its JSON has it. An error is a plain object. `startedMs` and `atMs` count from the beginning of
 * the shutdown, in milliseconds.
 */

/** How a shutdown, or a phase of it, ended. */
export type OutcomeData = 'clean' | 'forced' | 'failed'

/** An error in JSON. */
export interface ErrorData {
  readonly name: string
  readonly message: string
  /** Its code, empty if it has none. */
  readonly code: string
}

/** A phase that was entered. */
export interface PhaseData {
  readonly phase: string
  readonly startedMs: number
  readonly durationMs: number
  readonly outcome: OutcomeData
}

/** How much was in flight. The values hold until the next sample. */
export interface InFlightData {
  readonly atMs: number
  readonly requests: number
  readonly streams: number
  readonly webSockets: number
}

/** A request that was cut. */
export interface CutData {
  readonly method: string
  /** The route's pattern. */
  readonly route: string
  /** Its age, `null` if that was not recorded. */
  readonly ageMs: number | null
  /** Its category, empty if it has none. */
  readonly category: string
  readonly waitsFor: 'app' | 'client'
}

/** A task. */
export interface TaskData {
  readonly name: string
  readonly outcome: 'completed' | 'cancelled' | 'failed' | 'abandoned'
  /** Negative if the task began before the shutdown. `null` if the report does not have it. */
  readonly startedMs: number | null
  readonly durationMs: number
}

/** A resource. */
export interface ResourceData {
  readonly name: string
  readonly outcome: 'closed' | 'forced' | 'failed' | 'abandoned'
  readonly startedMs: number
  readonly durationMs: number
  /** Names of the dependants that closed before it. */
  readonly waitedFor: readonly string[]
  readonly error: ErrorData | null
}

/** A preClose or onClose hook. */
export interface HookData {
  readonly hook: 'preClose' | 'onClose'
  /** The plugin that added it. */
  readonly name: string
  readonly outcome: 'closed' | 'failed' | 'abandoned'
  readonly startedMs: number
  readonly durationMs: number
  readonly error: ErrorData | null
}

/** The report of one shutdown. The fields are those of `ShutdownReport`. */
export interface ReportData {
  readonly reason: { readonly kind: string, readonly detail: string }
  readonly outcome: OutcomeData
  readonly exitCode: 0 | 1
  /** ISO 8601, empty if it is not known. */
  readonly startedAt: string
  readonly durationMs: number
  readonly phases: readonly PhaseData[]
  readonly inFlight: readonly InFlightData[]
  readonly requests: {
    readonly completed: number
    readonly rejected: number
    readonly aborted: number
    readonly cut: readonly CutData[]
  }
  readonly streams: { readonly ended: number, readonly cut: number }
  readonly webSockets: { readonly closed: number, readonly terminated: number }
  readonly http2Sessions: { readonly closed: number, readonly destroyed: number }
  readonly sockets: { readonly idle: number, readonly silent: number, readonly destroyed: number }
  readonly tasks: readonly TaskData[]
  readonly resources: readonly ResourceData[]
  readonly hooks: readonly HookData[]
  readonly errors: readonly ErrorData[]
  /** Names of resources and hooks. A hook has the name `onClose hook of <plugin>`. */
  readonly criticalPath: readonly string[]
}
