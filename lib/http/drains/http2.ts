/**
 * The drain of HTTP/2 sessions. A session that is asked to leave sends GOAWAY, finishes its open streams and refuses
 * new ones (see `goaway.ts`). The client may repeat these elsewhere (RFC 9113, section 8.7). Node 20 does not send
 * GOAWAY when its server closes.
 */
import type { Server } from 'node:http'
import type { ServerHttp2Session } from 'node:http2'
import { createConditions } from '../../util/conditions'
import { now, spreadOver, within } from '../../util/time'
import type { Drain } from './drain'
import { endSessions } from './goaway'

/** The drain of HTTP/2 sessions. */
export interface Http2Drain extends Drain {
  /** Drains the sessions of a server. @param open sessions that were opened before */
  attach(server: Server, open?: readonly ServerHttp2Session[]): void
  /** No longer drains the sessions of a server. @returns the open ones */
  detach(server: Server): ServerHttp2Session[]
  /** Returns how many sessions were closed while draining, and how many were destroyed because their time was up. */
  counts(): { readonly closed: number, readonly destroyed: number }
}

/**
 * Longest time until a session that has had no stream closes, in milliseconds. Without a preface it never closes by
 * itself.
 */
const closeTimeout = 100

/** Longest time until a session that has had a stream has sent its answers, in milliseconds. */
const flushTimeout = 2_000

/** Options of the drain. */
export interface Http2Options {
  /** Longest time for the streams in flight, in milliseconds. */
  readonly timeout: number
  /** Returns the sessions with an answer in flight. */
  readonly busySessions: () => ReadonlySet<unknown>
  /** Resolves when no answer is in flight. */
  readonly untilAnswered: () => Promise<void>
  /** Called for each session that is destroyed with an answer in flight. */
  readonly onDestroy: () => void
}

/** Creates the drain of HTTP/2 sessions. */
export function createHttp2Drain ({ timeout, busySessions, untilAnswered, onDestroy }: Http2Options): Http2Drain {
  const sessions = new Set<ServerHttp2Session>()
  /** Sessions that have been asked to leave. */
  const leaving = new WeakSet<ServerHttp2Session>()
  const conditions = createConditions()
  const count = { closed: 0, destroyed: 0 }
  let phase: 'running' | 'lame-duck' | 'draining' = 'running'
  let stopSpreading = (): void => {}
  /** Resolves when the sessions that were asked last accept no new streams. */
  let asked = Promise.resolve()

  return {
    timeout,
    attach (server, open = []) {
      (server as unknown as NodeJS.EventEmitter).on('session', follow)
      open.forEach(follow)
    },
    detach (server) {
      (server as unknown as NodeJS.EventEmitter).removeListener('session', follow)
      const open = [...sessions]
      sessions.clear()
      for (const session of open) session.removeListener('close', forget).removeListener('stream', leaveIfShuttingDown)
      return open
    },
    enterLameDuck (ms) {
      phase = 'lame-duck'
      const busy = busySessions()
      leave([...sessions].filter(session => busy.has(session)))
      // A session without a stream may soon open its first one, which is served.
      stopSpreading = spreadOver([...sessions].filter(session => !busy.has(session) && isUsed(session)), ms, leave)
    },
    beginDraining () {
      phase = 'draining'
      stopSpreading()
      leave([...sessions])
    },
    async drain (ms) {
      if (sessions.size === 0) return 'clean'
      const began = now()
      const settled = await within(ms, untilAnswered)
      // The close timeout begins when GOAWAY is queued.
      await asked
      // A later session ends with its connection, when all drains are over.
      const last = [...sessions]
      if (last.length > 0) await within(closeTimeout, untilEmpty)
      // A used session that is still open has answers to send, because `untilAnswered` does not wait for our 503s.
      const deadline = Math.min(began + ms, now() + flushTimeout)
      while (last.some(isUsed) && now() < deadline) await within(closeTimeout, untilEmpty)
      const busy = busySessions()
      for (const session of last) {
        if (!sessions.delete(session)) continue
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
    session.on('stream', leaveIfShuttingDown)
  }

  /** Asks a session to leave that has a new stream during the shutdown. The stream is served. */
  function leaveIfShuttingDown (this: ServerHttp2Session): void {
    if (phase !== 'running') leave([this])
  }

  /** Asks each session to leave once. */
  function leave (some: readonly ServerHttp2Session[]): void {
    const next = some.filter(session => !leaving.has(session))
    for (const session of next) leaving.add(session)
    if (next.length > 0) asked = endSessions(next)
  }

  /**
   * Returns whether a session is still here and may have answers to send. After a graceful close, Node destroys the
   * session and waits for its socket. The kernel may hold an answer then, and a socket that is destroyed with bytes
   * unread resets the client.
   */
  function isUsed (session: ServerHttp2Session): boolean {
    if (!sessions.has(session)) return false
    return session.destroyed ? session.closed : (session.state.lastProcStreamID ?? 0) > 0
  }

  function untilEmpty (): Promise<void> {
    return conditions.until(() => sessions.size === 0)
  }

  function forget (this: ServerHttp2Session): void {
    if (!sessions.delete(this)) return
    if (phase === 'draining') count.closed++
    conditions.check()
  }
}
