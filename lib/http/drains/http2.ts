/**
 * The drain of HTTP/2 sessions. A session that is closed sends GOAWAY and finishes its open streams. It refuses new ones with
 * REFUSED_STREAM, and a client may repeat these elsewhere (RFC 9113, section 8.7). Node 20 does not do so when its server closes.
 */
import type { Server } from 'node:http'
import type { ServerHttp2Session } from 'node:http2'
import { createConditions } from '../../util/conditions'
import { spreadOver, within } from '../../util/time'
import type { Drain } from './drain'

export interface Http2Drain extends Drain {
  /** Drains the sessions of a server. */
  attach(server: Server): void
  /** Returns how many sessions were closed while draining, and how many were destroyed because their time was up. */
  counts(): { readonly closed: number, readonly destroyed: number }
}

/** How long a session without a stream may take to close, in milliseconds. One that has never sent its preface never does. */
const closeTimeout = 100

export interface Http2Options {
  /** Longest time for the streams in flight, in milliseconds. */
  readonly timeout: number
  /** Returns the sessions that carry an answer. */
  readonly busySessions: () => ReadonlySet<unknown>
  /** Resolves when no answer is in flight. */
  readonly untilAnswered: () => Promise<void>
  /** Called for each session that is destroyed with an answer in flight. */
  readonly onDestroy: () => void
}

/** Creates the drain of HTTP/2 sessions. */
export function createHttp2Drain ({ timeout, busySessions, untilAnswered, onDestroy }: Http2Options): Http2Drain {
  const sessions = new Set<ServerHttp2Session>()
  const conditions = createConditions()
  const count = { closed: 0, destroyed: 0 }
  let phase: 'running' | 'lame-duck' | 'draining' = 'running'
  let stopSpreading = (): void => {}

  return {
    timeout,
    attach (server) {
      (server as unknown as NodeJS.EventEmitter).on('session', follow)
    },
    enterLameDuck (ms) {
      phase = 'lame-duck'
      const busy = busySessions()
      for (const session of sessions) if (busy.has(session)) session.close()
      stopSpreading = spreadOver([...sessions].filter(session => !busy.has(session)), ms, some => {
        for (const session of some) session.close()
      })
    },
    beginDraining () {
      phase = 'draining'
      stopSpreading()
      for (const session of sessions) session.close()
    },
    async drain (ms) {
      if (sessions.size === 0) return 'clean'
      const settled = await within(ms, untilAnswered)
      await within(closeTimeout, () => conditions.until(() => sessions.size === 0))
      const busy = busySessions()
      for (const session of [...sessions]) {
        sessions.delete(session)
        count.destroyed++
        session.destroy()
        if (busy.has(session)) onDestroy()
      }
      return settled.status === 'late' ? 'forced' : 'clean'
    },
    pending: () => sessions.size === 0 ? [] : [`${sessions.size} HTTP/2 session${sessions.size === 1 ? '' : 's'}`],
    counts: () => ({ ...count })
  }

  function follow (session: ServerHttp2Session): void {
    sessions.add(session)
    session.once('close', forget)
    // A session that begins now gets one answer, and GOAWAY with it.
    if (phase !== 'running') session.once('stream', closeSession)
    else session.on('stream', closeIfLeaving)
  }

  function closeIfLeaving (this: ServerHttp2Session): void {
    if (phase !== 'running') this.close()
  }

  function forget (this: ServerHttp2Session): void {
    if (!sessions.delete(this)) return
    if (phase === 'draining') count.closed++
    conditions.check()
  }
}

function closeSession (this: ServerHttp2Session): void {
  this.close()
}
