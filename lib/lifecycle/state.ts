/** `fastify.shutdownState`: live, read-only, and safe to return from a route. */
import type { InFlight, ShutdownState, ShutdownStats } from '../../types/index'
import type { InFlightTable } from '../http/in-flight'
import type { Lifecycle } from './phases'
import type { Tasks } from './tasks'

/** The parts that the state reads. */
export interface StateSources {
  readonly lifecycle: Lifecycle
  readonly table: InFlightTable
  readonly tasks: Tasks
  /** Returns the number of open WebSockets. */
  readonly webSockets: () => number
}

/** Longest list of requests in `toJSON()`, because a status page cannot show ten thousand. */
const mostListed = 100

/** Creates the state. Its properties are getters, so each read returns the current value. */
export function createState (sources: StateSources): ShutdownState {
  const { lifecycle, table, tasks } = sources
  const state: ShutdownState = {
    get phase () { return lifecycle.phase },
    get ready () { return lifecycle.phase === 'running' && lifecycle.booted },
    get accepting () { return !lifecycle.hasReached('draining') },
    get reason () { return lifecycle.reason },
    get lameDuckEnd () { return lifecycle.lameDuckEnd },
    signal: lifecycle.signal,
    get remaining () { return lifecycle.remaining() },
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
        // An error's message may contain a secret. The name of a signal and our own text do not.
        reason: reason === null
          ? null
          : { kind: reason.kind, detail: reason.kind === 'signal' || reason.kind === 'close' ? reason.detail : '' },
        lameDuckEnd: state.lameDuckEnd,
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
