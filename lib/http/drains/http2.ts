/**
 * The drain of HTTP/2 sessions. A session that is asked to leave sends GOAWAY, finishes its open streams and accepts
 * no new ones (see `goaway.ts`). The client may repeat these elsewhere (RFC 9113, section 8.7). Node 20 does not send
 * GOAWAY when its server closes.
 */
import type { Server } from 'node:http'
import type { ServerHttp2Session } from 'node:http2'
import type { OnProblem } from '../../lifecycle/problems'
import { createConditions } from '../../util/conditions'
import { inTime, now, spreadOver } from '../../util/time'
import type { Connection, Connections } from '../connections'
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

/** Longest time until the 503s of a session are sent, in milliseconds. */
const flushTimeout = 2_000

/**
 * Time after an answer in which a slow client may still be reading it from the kernel, in milliseconds. A session that
 * has been idle for longer may belong to a client that no longer exists, and does not delay the shutdown.
 */
const readingTime = 10_000

/** Options of the drain. */
export interface Http2Options {
  readonly connections: Connections
  /** The drain of the requests, which has the same timeout. */
  readonly requests: Pick<Drain, 'timeout'>
  /** Returns the sessions with an answer in flight. */
  readonly busySessions: () => ReadonlySet<unknown>
  /** Resolves when no answer is in flight. */
  readonly untilAnswered: () => Promise<void>
  /** Called for each session that is destroyed with an answer in flight. */
  readonly onDestroy: () => void
  /** Called for each session that cannot be ended. */
  readonly onProblem: OnProblem
}

/** Creates the drain of HTTP/2 sessions. */
export function createHttp2Drain ({
  connections, requests, busySessions, untilAnswered, onDestroy, onProblem
}: Http2Options): Http2Drain {
  const sessions = new Set<ServerHttp2Session>()
  /** Sessions that have been asked to leave, with their connections. A destroyed session has no socket. */
  const leaving = new WeakMap<ServerHttp2Session, Connection | undefined>()
  const conditions = createConditions()
  const count = { closed: 0, destroyed: 0 }
  let phase: 'running' | 'lame-duck' | 'draining' = 'running'
  let stopSpreading = (): void => {}
  /** Resolves when the sessions that were asked last accept no new streams. */
  let asked = Promise.resolve()

  return {
    name: 'HTTP/2 sessions',
    get timeout () { return requests.timeout },
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
      const isAnswered = await inTime(ms, untilAnswered())
      // The close timeout begins when GOAWAY is queued.
      await asked
      // A later session ends with its connection, when all drains are over.
      const last = [...sessions]
      if (last.length > 0) await inTime(closeTimeout, untilNone(last, () => true))
      // Our 503s: `untilAnswered` does not wait for them.
      const rest = (): number => Math.max(0, began + ms - now())
      await inTime(Math.min(flushTimeout, rest()), untilNone(last, session => busySessions().has(session)))
      const areRead = await inTime(rest(), untilNone(last, answeredLately))
      const busy = busySessions()
      for (const session of last) {
        if (!sessions.delete(session)) continue
        count.destroyed++
        try {
          session.destroy()
        } catch (error) {
          onProblem('An HTTP/2 session could not be destroyed', error)
        }
        if (busy.has(session)) onDestroy()
      }
      return isAnswered && areRead ? 'clean' : 'forced'
    },
    pending: () => sessions.size === 0 ? [] : [`${sessions.size} HTTP/2 session${sessions.size === 1 ? '' : 's'}`],
    counts: () => ({ ...count })
  }

  function follow (session: ServerHttp2Session): void {
    sessions.add(session)
    session.once('close', forget)
    session.on('stream', leaveIfShuttingDown)
  }

  /** Asks a session to leave if it has a new stream during the shutdown. The stream is served. */
  function leaveIfShuttingDown (this: ServerHttp2Session): void {
    if (phase !== 'running') leave([this])
  }

  /** Asks each session to leave once. */
  function leave (some: readonly ServerHttp2Session[]): void {
    const next = some.filter(session => !leaving.has(session))
    for (const session of next) leaving.set(session, session.destroyed ? undefined : connections.of(session.socket))
    if (next.length > 0) asked = endSessions(next, answeredLately, onProblem)
  }

  /** Returns whether a session has had a stream. Another one may soon open its first stream, which is served. */
  function isUsed ({ state }: ServerHttp2Session): boolean {
    return (state.lastProcStreamID ?? 0) > 0
  }

  /**
   * Returns whether a client may still be reading the answers of a session. After a graceful close, Node sends FIN and
   * waits for the end of the client. A socket that is destroyed before is reset by the client's next frame, such as
   * WINDOW_UPDATE, and the kernel drops the rest of the answers.
   */
  function answeredLately (session: ServerHttp2Session): boolean {
    const answeredAt = leaving.get(session)?.answeredAt ?? -Infinity
    return now() - answeredAt < readingTime
  }

  /** Resolves when none of these sessions is open and fulfils the condition. It is evaluated when a session closes. */
  function untilNone (
    some: readonly ServerHttp2Session[], condition: (session: ServerHttp2Session) => boolean
  ): Promise<void> {
    return conditions.until(() => !some.some(session => sessions.has(session) && condition(session)))
  }

  function forget (this: ServerHttp2Session): void {
    if (!sessions.delete(this)) return
    if (phase === 'draining') count.closed++
    conditions.check()
  }
}
