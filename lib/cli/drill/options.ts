/** The options of a drill. */
import type { Plan } from './plan'

/** The options of a drill. Times are in milliseconds. */
export interface DrillOptions {
  /** The command and its arguments; `null` if a running server is drilled. */
  readonly command: readonly string[] | null
  /** Where the server answers; `null` if the listening sockets of the process show it. */
  readonly url: URL | null
  readonly pid: number | null
  readonly pidFile: string | null
  readonly allowedHosts: readonly string[]
  readonly signal: NodeJS.Signals
  /** Longest wait for readiness. */
  readonly readyMs: number
  /** Length of the traffic before the signal. */
  readonly beforeMs: number
  /** Longest time from the signal to the end of the process. */
  readonly graceMs: number
  /** How many requests may be lost in all restarts together. */
  readonly lost: number
  readonly restarts: number
  readonly plan: Required<Plan>
  readonly json: boolean
  readonly html: string | null
  readonly junit: string | null
  readonly markdown: string | null
}
