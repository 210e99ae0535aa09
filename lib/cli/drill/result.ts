/** The result of a drill, which all outputs show, and which `--json` prints. */
import type { RequestCounts } from './classes'
import type { Bar, Sample } from './record'
import type { StreamCounts } from './streams'
import type { WebSocketCounts } from './websockets'

/** The rules of the verdict. */
export const rules = [
  'lost', 'retry-after', 'exit-code', 'ended-by-signal', 'orphan', 'open-listener', 'grace', 'signal-ignored'
] as const

/** A rule of the verdict. */
export type Rule = typeof rules[number]

/** Why a drill failed. */
export interface Reason {
  readonly rule: Rule
  /** How many: lost requests, orphans, restarts. */
  readonly count: number
  readonly message: string
  /** What to do about it. */
  readonly hint: string
}

/** How the process ended in one restart. */
export interface ProcessResult {
  readonly pid: number
  /** `false`: it was not over within the grace period. */
  readonly ended: boolean
  /** `null` if a signal ended it, if it did not end, or if it is not a child of the drill. */
  readonly exitCode: number | null
  /** The signal that ended it. */
  readonly signal: string | null
  /** Whether it went on serving as if no signal had come. */
  readonly ignoredSignal: boolean
  /** What was left of its tree. */
  readonly orphans: ReadonlyArray<{ readonly pid: number, readonly command: string }>
  /** Listening sockets that still accepted connections. */
  readonly openListeners: readonly string[]
  /**
   * Times, in milliseconds. `start`: until it was ready. `serving`: from the signal to the first sign of a shutdown.
   * `draining`: to the first refused connection. `closing`: to the end of the process. A phase that was not seen is
   * `null`.
   */
  readonly phases: {
    readonly start: number | null
    readonly serving: number | null
    readonly draining: number | null
    readonly closing: number | null
    /** From the signal to the end of the process. */
    readonly total: number | null
  }
}

/** One restart of the server. */
export interface Restart {
  readonly url: string
  readonly before: RequestCounts
  readonly after: RequestCounts
  readonly statuses: {
    readonly before: Readonly<{ [status: string]: number }>
    readonly after: Readonly<{ [status: string]: number }>
  }
  readonly streams: StreamCounts
  readonly webSockets: WebSocketCounts
  readonly process: ProcessResult
  /** Requests that were lost or rejected without Retry-After, at most 20. */
  readonly failures: readonly Sample[]
  /** Requests per 100 ms, by the time at which they were sent. */
  readonly bars: readonly Bar[]
  /** In milliseconds since the traffic began. `end` is `null` if the process did not end. */
  readonly marks: { readonly signal: number, readonly end: number | null }
}

/** The result of a drill. */
export interface DrillResult {
  readonly schemaVersion: 1
  readonly verdict: 'passed' | 'failed'
  readonly startedAt: string
  readonly durationMs: number
  readonly options: {
    /** `null` for a running server. */
    readonly command: readonly string[] | null
    readonly signal: string
    /** In seconds. */
    readonly grace: number
    readonly lost: number
    readonly rate: number
    readonly connections: number
    /** `GET /`. */
    readonly requests: readonly string[]
  }
  /** All requests of all restarts. */
  readonly requests: RequestCounts
  /** Requests, streams and WebSockets that were lost. */
  readonly lost: number
  readonly streams: StreamCounts
  readonly webSockets: WebSocketCounts
  /** Empty if the drill passed. */
  readonly reasons: readonly Reason[]
  /** What may be a mistake, and is no failure. */
  readonly notes: readonly string[]
  readonly restarts: readonly Restart[]
}
