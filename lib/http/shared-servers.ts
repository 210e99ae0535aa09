/**
 * Servers that outlive an app. @fastify/restartable passes its server from one app to the next, and replaces the
 * server's `close`. Such a server is not ours to close: it keeps its listener and its connections, and closes them when
 * its own `close` does.
 */
import type { Server } from 'node:http'
import type { ServerHttp2Session } from 'node:http2'
import type { Socket } from 'node:net'
import { kRelease } from '../symbols'

/** The open connections and HTTP/2 sessions of a server, which the next app drains. */
export interface Handover {
  readonly sockets: readonly Socket[]
  readonly sessions: readonly ServerHttp2Session[]
}

/** A server with the function by which the current app leaves it to the next one. */
type ServerInUse = Server & { [kRelease]?: () => Handover }

/** Returns whether a server may outlive its app: its `close` is not Node's own. */
export function isShared (server: Server): boolean {
  return Object.hasOwn(server, 'close')
}

/**
 * Takes over a server from the app that has used it until now.
 *
 * @param release called when the next app takes over the server
 * @returns what is open; nothing if the server is new
 */
export function takeOver (server: ServerInUse, release: () => Handover): Handover {
  const previous = isShared(server) ? server[kRelease]?.() : undefined
  server[kRelease] = release
  return previous ?? { sockets: [], sessions: [] }
}

/** Forgets the app that uses a server, because it has closed. */
export function forgetApp (server: ServerInUse, release: () => Handover): void {
  if (server[kRelease] === release) delete server[kRelease]
}
