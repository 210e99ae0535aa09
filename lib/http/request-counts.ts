/** Counts the requests from the beginning of a shutdown, for the report. */
import type { CutRequest, InFlight } from '../../types/index'
import type { Events } from '../lifecycle/events'
import type { Counts } from '../lifecycle/report'
import type { InFlightTable } from './in-flight'
import type { Lifecycle } from '../lifecycle/phases'

/** The counts of one shutdown. */
export interface RequestCounts {
  /** The shutdown begins: the report counts from here. */
  begin(): void
  /** Records the streams that are open now. Call it before draining ends any of them. */
  beginDraining(): void
  /** Counts a request or a stream that was cut. */
  cut(entry: InFlight): void
  /** Emits the event of a WebSocket or HTTP/2 session that was cut. */
  cutOther(what: 'websocket' | 'http2-session', name: string): void
  /** Returns the counts of the report. */
  counts(): Pick<Counts, 'requests' | 'streams' | 'cutAtWork'>
}

/** Most cut requests that the report lists. */
const mostRecords = 1_000

/** Creates the counts. They are relative to the last call of `begin`. */
export function createRequestCounts (table: InFlightTable, events: Events, lifecycle: Lifecycle): RequestCounts {
  const cut: CutRequest[] = []
  let before = { completed: 0, rejected: 0, aborted: 0 }
  /**
   * The streams that were open when draining began, by request id. A request that begins to stream later is not in the
   * map.
   */
  const streaming = new Map<string, number>()
  let streams = 0
  let cutStreams = 0
  let cutAtWork = 0

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
      const { id, method, route, ageMs, category, kind, waitsFor } = entry
      events.emit({ type: 'request-cut', what: kind, name: `${method} ${route}`, ageMs })
      // The app may cut a request by its id while the server runs. It is not a part of a shutdown.
      if (lifecycle.phase === 'running') return
      if (waitsFor === 'app') cutAtWork++
      if (kind === 'request') {
        if (cut.length < mostRecords) cut.push({ method, route, ageMs, category, waitsFor })
        return
      }
      cutStreams++
      const left = streaming.get(id) ?? 0
      if (left === 0) return
      streaming.set(id, left - 1)
      streams--
    },
    cutOther: (what, name) => events.emit({ type: 'request-cut', what, name, ageMs: null }),
    counts: () => ({
      requests: {
        completed: table.completed - before.completed,
        rejected: table.rejected - before.rejected,
        aborted: table.aborted - before.aborted,
        cut
      },
      streams: { ended: streams, cut: cutStreams },
      cutAtWork
    })
  }
}
