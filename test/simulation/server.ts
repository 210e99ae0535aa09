/**
 * The server of a simulation: its requests begin, end, are rejected, aborted and cut at their times. The drain of the
 * requests, the counts of the report and the wait for a quiet time are the real ones.
 */
import type { ServerResponse } from 'node:http'
import type { Connection } from '../../lib/http/connections'
import { createRequestsDrain } from '../../lib/http/drains/requests'
import type { Drain } from '../../lib/http/drains/drain'
import type { InFlightTable } from '../../lib/http/in-flight'
import { createLastRequest, type LastRequest } from '../../lib/http/last-request'
import { createRequestCounts } from '../../lib/http/request-counts'
import type { Events } from '../../lib/lifecycle/events'
import type { Counts } from '../../lib/lifecycle/report'
import type { Lifecycle } from '../../lib/lifecycle/phases'
import type { Tasks } from '../../lib/lifecycle/tasks'
import type { Settings } from '../../lib/options'
import { createConditions } from '../../lib/util/conditions'
import { inTime, now, turn } from '../../lib/util/time'
import type { InFlight, Outcome } from '../../types/index'

/** What one client does. Times are in milliseconds. */
export interface RequestPlan {
  readonly at: number
  readonly ms: number
  readonly kind: 'request' | 'stream'
  /** Whether the headers of its answer are sent at once. */
  readonly hasBegun: boolean
  /** Whether its route is served while draining. */
  readonly exempt: boolean
  readonly category: string | null
  readonly waitsFor: 'app' | 'client'
  /** Whether its client leaves before the answer is over. */
  readonly aborts: boolean
  /** Whether it is a stream of `shutdown.stream()`, which ends when draining begins. */
  readonly endsOnSignal: boolean
  /** Whether its handler starts a task at its end. */
  readonly startsTask: boolean
}

interface Entry extends RequestPlan {
  readonly id: string
  state: 'active' | 'cut'
  /** Whether the drain waits for it. */
  readonly isAwaited: boolean
}

export interface ServerOptions {
  readonly settings: Pick<Settings, 'timeouts' | 'givenTimeouts' | 'categories'>
  readonly lifecycle: Lifecycle
  readonly events: Events
  readonly tasks: Tasks
  /** Called for each request that is cut, by its drain or at the end. */
  readonly onCut: (plan: RequestPlan, isByDrain: boolean) => void
  /** Called for each request that the drain has waited for. */
  readonly onComplete: (plan: RequestPlan) => void
  /** The handler of a request with a task is over. */
  readonly startTask: () => void
}

/** A simulated server. */
export interface SimulatedServer {
  readonly requests: Drain
  readonly lastRequest: LastRequest
  /** How many requests are in flight. */
  readonly size: number
  readonly active: { readonly requests: number, readonly streams: number }
  /** How many requests have arrived, and how many of them have which end. */
  readonly stats: { received: number, completed: number, rejected: number, aborted: number, cut: number }
  /** Plays the clients. */
  play (plans: readonly RequestPlan[], connections: readonly ConnectionPlan[]): void
  begin (): void
  beginDraining (): void
  listen (): void
  stopListening (): void
  readonly listening: boolean
  /** Waits up to `ms` milliseconds for the remaining requests, then closes all connections. */
  end (ms: number): Promise<Outcome>
  destroyAll (): void
  counts (): Pick<Counts, 'requests' | 'streams' | 'cutAtWork'>
}

/** A connection without a request until `usedAt`. */
export interface ConnectionPlan {
  readonly at: number
  readonly usedAt: number
}

/** Creates a server without requests. */
export function createServer (
  { settings, lifecycle, events, tasks, onCut, onComplete, startTask }: ServerOptions
): SimulatedServer {
  const entries = new Map<string, Entry>()
  const conditions = createConditions()
  const connections = new Set<{ since: number, isUsed: boolean }>()
  const lastRequest = createLastRequest({ all: () => [...connections] as unknown as Connection[] })
  const stats = { received: 0, completed: 0, rejected: 0, aborted: 0, cut: 0 }
  let listening = false
  let open = false
  let ids = 0

  const awaited = (): Entry[] => [...entries.values()].filter(({ isAwaited, state }) => isAwaited && state === 'active')
  const describe = ({ id, category, kind, waitsFor }: Entry): InFlight => (
    { id, method: 'GET', route: `/${id}`, ageMs: null, category, kind, waitsFor }
  )
  const table = {
    get completed () { return stats.completed },
    get rejected () { return stats.rejected },
    get aborted () { return stats.aborted },
    untilAnswered: () => conditions.until(() => awaited().length === 0),
    list: () => [...entries.values()].map(describe),
    async cut (which, from = 'awaited') {
      const chosen = (from === 'all' ? [...entries.values()].filter(({ state }) => state === 'active') : awaited())
        .filter(entry => which(describe(entry), entry.hasBegun))
      for (const entry of chosen) {
        entry.state = 'cut'
        onCut(entry, from === 'awaited')
      }
      await turn()
      for (const entry of chosen) end(entry, 'cut')
      return chosen.map(describe)
    }
  } as Pick<InFlightTable, 'completed' | 'rejected' | 'aborted' | 'untilAnswered' | 'list' | 'cut'> as InFlightTable
  const counts = createRequestCounts(table, events, lifecycle)

  return {
    requests: createRequestsDrain(table, settings, {
      announceClose () {}, tasksRun: () => tasks.active > 0, onCut: counts.cut
    }),
    lastRequest,
    stats,
    get size () { return entries.size },
    get active () {
      const streams = [...entries.values()].filter(({ kind }) => kind === 'stream').length
      return { requests: entries.size - streams, streams }
    },
    play (plans, connectionPlans) {
      for (const plan of plans) setTimeout(arrive, plan.at, plan)
      for (const { at, usedAt } of connectionPlans) {
        setTimeout(() => {
          if (!listening) return
          const connection = { since: now(), isUsed: false }
          connections.add(connection)
          setTimeout(() => { connection.isUsed = true }, usedAt)
        }, at)
      }
    },
    begin: counts.begin,
    beginDraining: counts.beginDraining,
    get listening () { return listening },
    listen () { listening = open = true },
    stopListening () { listening = false },
    async end (ms) {
      await turn()
      await inTime(ms, conditions.until(() => entries.size === 0))
      const left = await table.cut(() => true, 'all')
      left.forEach(counts.cut)
      // Closes all connections, also that of a request which has just arrived.
      open = false
      for (const entry of [...entries.values()]) end(entry, 'aborted')
      return left.length === 0 ? 'clean' : 'forced'
    },
    destroyAll () {
      open = false
      for (const entry of [...entries.values()]) end(entry, 'aborted')
    },
    counts: counts.counts
  }

  /** A request arrives on a connection that is open, also if the server no longer listens. */
  function arrive (plan: RequestPlan): void {
    if (!open) return
    const isDraining = lifecycle.hasReached('draining')
    stats.received++
    const res = {} as ServerResponse
    lastRequest.note(res)
    if (plan.exempt) {
      lastRequest.forget(res)
    } else if (isDraining) {
      stats.rejected++
      return
    }
    const entry: Entry = { ...plan, id: `r${ids++}`, state: 'active', isAwaited: !isDraining }
    entries.set(entry.id, entry)
    const finish = (): void => {
      if (entry.state === 'cut' || !entries.has(entry.id)) return
      if (plan.startsTask) startTask()
      if (entry.isAwaited && !plan.aborts) onComplete(plan)
      end(entry, plan.aborts ? 'aborted' : 'completed')
    }
    setTimeout(finish, plan.ms)
    if (plan.endsOnSignal) lifecycle.signal.addEventListener('abort', finish)
  }

  function end (entry: Entry, how: 'completed' | 'aborted' | 'cut'): void {
    if (!entries.delete(entry.id)) return
    stats[how]++
    conditions.check()
  }
}
