/** Counts what becomes of the requests from the moment a shutdown begins: the numbers of the report. */
import type { CutRequest, InFlight } from '../../types/index'
import type { Events } from '../lifecycle/events'
import type { InFlightTable } from './in-flight'
import type { Lifecycle } from '../lifecycle/phases'

/** The counts of one shutdown. */
export interface RequestCounts {
  /** The shutdown begins: the report counts from here. */
  begin(): void
  /** Remembers the streams that are open now. Before any of them ends because draining begins. */
  beginDraining(): void
  /** Counts a request or a stream that was cut. */
  cut(entry: InFlight): void
  /** Reports something else that was cut. */
  cutOther(what: 'websocket' | 'http2-session', name: string): void
  counts(): {
    readonly requests: { readonly completed: number, readonly rejected: number, readonly aborted: number, readonly cut: readonly CutRequest[] }
    readonly streams: { readonly ended: number, readonly cut: number }
  }
}

/** Most requests that the report names. */
const mostRecords = 1_000

/** Starts at zero. `begin` sets the base line. */
export function createRequestCounts (table: InFlightTable, events: Events, lifecycle: Lifecycle): RequestCounts {
  const cut: CutRequest[] = []
  let before = { completed: 0, rejected: 0, aborted: 0 }
  /** The streams that were open when draining began, by request id. Another request may begin to stream later. */
  const streaming = new Map<string, number>()
  let streams = 0
  let cutStreams = 0

  return {
    begin () { before = { completed: table.completed, rejected: table.rejected, aborted: table.aborted } },
    beginDraining () {
      for (const { kind, id } of table.list()) {
        if (kind !== 'stream') continue
        streams++
        streaming.set(id, (streaming.get(id) ?? 0) + 1)
      }
    },
    cut (entry) {
      const { id, method, route, ageMs, category, kind } = entry
      events.emit({ type: 'cut', what: kind, name: `${method} ${route}`, ageMs })
      // Cut by its id while the server runs: no part of a shutdown.
      if (lifecycle.phase === 'running') return
      if (kind === 'request') {
        if (cut.length < mostRecords) cut.push({ method, route, ageMs, category })
        return
      }
      cutStreams++
      const left = streaming.get(id) ?? 0
      if (left === 0) return
      streaming.set(id, left - 1)
      streams--
    },
    cutOther: (what, name) => events.emit({ type: 'cut', what, name, ageMs: null }),
    counts: () => ({
      requests: {
        completed: table.completed - before.completed, rejected: table.rejected - before.rejected, aborted: table.aborted - before.aborted, cut
      },
      streams: { ended: streams, cut: cutStreams }
    })
  }
}
