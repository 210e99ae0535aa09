/** `fastify.shutdownState`: live, read-only, safe to return from a route. */
import type { InFlight, ShutdownReason, ShutdownState, ShutdownStats } from '../../types/index'
import type { InFlightTable } from '../http/in-flight'
import type { PhaseLine } from './phases'
import type { Tasks } from './tasks'

export interface StateSources {
  readonly phase: PhaseLine
  readonly table: InFlightTable
  readonly tasks: Tasks
  readonly signal: AbortSignal
  readonly reason: () => ShutdownReason | null
  readonly remaining: () => number
  readonly webSockets: () => number
  /** Whether the app is listening or ready to serve. */
  readonly booted: () => boolean
}

/** A status page is no place for ten thousand lines. */
const mostListed = 100

export function createState (sources: StateSources): ShutdownState {
  const { phase, table, tasks } = sources
  const state: ShutdownState = {
    get phase () { return phase.current },
    get ready () { return phase.current === 'running' && sources.booted() },
    get accepting () { return !phase.reached('draining') },
    get reason () { return sources.reason() },
    signal: sources.signal,
    get remaining () { return phase.current === 'running' ? Infinity : sources.remaining() },
    get activeRequests () { return table.requests },
    get activeStreams () { return table.streams },
    get activeWebSockets () { return sources.webSockets() },
    get activeTasks () { return tasks.active },
    get stats () { return stats() },
    requests: () => table.list(),
    toJSON () {
      const { remaining, reason } = state
      return {
        phase: state.phase,
        ready: state.ready,
        accepting: state.accepting,
        // An error's message may hold anything; a signal's name, or a word of ours, does not.
        reason: reason === null ? null : { kind: reason.kind, detail: reason.kind === 'signal' || reason.kind === 'close' ? reason.detail : '' },
        remaining: Number.isFinite(remaining) ? Math.round(remaining) : null,
        activeRequests: state.activeRequests,
        activeStreams: state.activeStreams,
        activeWebSockets: state.activeWebSockets,
        activeTasks: state.activeTasks,
        requests: state.requests().slice(0, mostListed).map(withoutId),
        stats: state.stats
      }
    }
  }
  return Object.freeze(state)

  function stats (): ShutdownStats {
    return {
      received: table.received,
      completed: table.completed,
      rejected: table.rejected,
      aborted: table.aborted,
      cut: table.cutCount,
      tasksCompleted: tasks.completed,
      tasksCancelled: tasks.cancelled,
      tasksFailed: tasks.failed,
      tasksAbandoned: tasks.abandoned
    }
  }
}

function withoutId ({ id, ageMs, ...rest }: InFlight): Record<string, unknown> {
  return { ...rest, ageMs: ageMs === null ? null : Math.round(ageMs) }
}
