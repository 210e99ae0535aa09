/**
 * HTTP/2 sessions. One that is asked to close sends GOAWAY, lets the streams it has finish, and refuses new ones with
 * REFUSED_STREAM, which a client may repeat elsewhere (RFC 9113, section 8.7). Node 20 does not ask by itself.
 */
import type { Server } from 'node:http'
import type { ServerHttp2Session } from 'node:http2'
import { every, within } from '../../util/time'
import type { Drain } from './drain'
import { createDeferred } from '../../util/deferred'

export interface Http2Drain extends Drain {
  attach(server: Server): void
  counts(): { readonly closed: number, readonly destroyed: number }
}

/** How often idle sessions are asked to leave while they are spread, in milliseconds. */
const spreadStep = 50

/** How long a session without a stream may take to say goodbye, in milliseconds. One that never sent its preface never does. */
const goodbye = 100

export interface Http2Options {
  /** Longest time for the streams that are in flight, in milliseconds. */
  readonly timeout: number
  /** Sessions with a stream in flight. */
  readonly busy: () => ReadonlySet<unknown>
  /** Resolves when none is. */
  readonly served: () => Promise<void>
  readonly onDestroy: () => void
}

export function http2Drain ({ timeout, busy, served, onDestroy }: Http2Options): Http2Drain {
  const sessions = new Set<ServerHttp2Session>()
  const count = { closed: 0, destroyed: 0 }
  let discouraging = false
  let told = false
  let stopSpreading = (): void => {}
  let empty = createDeferred<void>()

  return {
    name: 'http2',
    timeout,
    attach (server) {
      (server as unknown as NodeJS.EventEmitter).on('session', follow)
    },
    discourage (ms) {
      discouraging = true
      const busySessions = busy()
      const idle: ServerHttp2Session[] = []
      for (const session of sessions) {
        if (busySessions.has(session)) session.close()
        else idle.push(session)
      }
      const share = Math.ceil(idle.length / Math.max(1, Math.floor(ms / spreadStep)))
      if (idle.length === 0) return
      stopSpreading = every(spreadStep, () => {
        for (const session of idle.splice(0, share)) session.close()
        if (idle.length === 0) stopSpreading()
      })
    },
    tell () {
      discouraging = told = true
      stopSpreading()
      for (const session of sessions) session.close()
    },
    async drain (ms) {
      if (sessions.size === 0) return 'clean'
      const settled = await within(ms, served)
      if (sessions.size > 0) await within(goodbye, () => empty.promise)
      const busySessions = busy()
      for (const session of [...sessions]) {
        sessions.delete(session)
        count.destroyed++
        session.destroy()
        if (busySessions.has(session)) onDestroy()
      }
      return settled.status === 'late' ? 'forced' : 'clean'
    },
    inside: () => sessions.size === 0 ? [] : [`${sessions.size} HTTP/2 session${sessions.size === 1 ? '' : 's'}`],
    counts: () => ({ ...count })
  }

  function follow (session: ServerHttp2Session): void {
    sessions.add(session)
    session.once('close', forget)
    // A session that comes late gets one answer, and the word to go with it.
    if (discouraging) session.once('stream', leaveWithStream)
    else session.on('stream', leaveWhenDiscouraged)
  }

  function leaveWithStream (this: ServerHttp2Session): void {
    this.close()
  }

  function leaveWhenDiscouraged (this: ServerHttp2Session): void {
    if (discouraging) this.close()
  }

  function forget (this: ServerHttp2Session): void {
    if (!sessions.delete(this)) return
    if (told) count.closed++
    if (sessions.size > 0) return
    empty.resolve()
    empty = createDeferred()
  }
}
