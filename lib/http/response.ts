/** What an answer says of itself, and how it is broken off: with HTTP/1, HTTP/2 and inject, which each say it differently. */
import type { ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { markClosed } from '../util/node-internals'

/** NGHTTP2_CANCEL, without loading node:http2 for those who have no use for it. */
const http2Cancel = 8

/**
 * A response and the socket that it goes out by. The socket is read once, when the request arrives: Node sets `req.socket` to
 * null when the body is left early (a `for await` that breaks, a `pipeline()` that fails), and `res.socket` to null when the
 * response is over, or while it waits behind another one.
 */
export interface Carrier {
  readonly res: ServerResponse
  /** No socket of `node:net` for inject. */
  readonly socket: Socket | null
  /** Whether the app has destroyed the response, which only the moment before its `close` can tell. */
  readonly destroyedByServer?: boolean
}

/** The part of Http2ServerResponse that ServerResponse does not have. */
interface Http2Answer {
  readonly stream?: { readonly aborted: boolean, readonly destroyed: boolean, readonly errored: unknown, readonly rstCode: number, readonly session: { readonly destroyed: boolean } | undefined, close(code: number): void }
}

/** Headers out and body not over. An answer that was handed over whole and is still being flushed is a request. */
export function isStream (res: ServerResponse): boolean {
  return res.headersSent && !res.writableEnded
}

/** Its client has left: `close` has been emitted, or never will be, as for an answer that waited behind another. */
export function isGone ({ res, socket }: Carrier): boolean {
  const { stream } = res as unknown as Http2Answer
  return res.destroyed || stream?.destroyed === true || socket?.destroyed === true
}

/**
 * Whether all of it reached the kernel. HTTP/2's compatible response says `writableFinished` of one that was reset, too;
 * inject's closes before it is finished, and has nobody who could leave in between.
 */
export function isFinished ({ res, socket }: Carrier): boolean {
  if (!res.writableEnded) return false
  const { stream } = res as unknown as Http2Answer
  if (stream !== undefined) return !stream.aborted
  return res.writableFinished || !(socket instanceof Socket)
}

/**
 * Which side ended an answer that is gone. A socket that the server destroys has neither an error nor an end. With HTTP/2 a
 * stream that its client closes without an error looks like one that the server closes.
 */
export function endedBy ({ res, socket, destroyedByServer }: Carrier): 'client' | 'server' | 'unknown' {
  if (destroyedByServer === true) return 'server'
  const { stream } = res as unknown as Http2Answer
  if (stream !== undefined) {
    if (hasNoCode(stream.errored)) return 'server'
    if (stream.rstCode !== 0) return 'client'
    return stream.session?.destroyed === false ? 'unknown' : 'server'
  }
  if (!(socket instanceof Socket)) return 'client'
  return hasNoCode(socket.errored) || (socket.errored == null && !socket.readableEnded) ? 'server' : 'client'
}

/** An error that the app made: those of Node and of its parsers have codes. */
function hasNoCode (error: unknown): boolean {
  return error != null && typeof (error as NodeJS.ErrnoException).code !== 'string'
}

/** The HTTP/2 session that it goes out by. */
export function sessionOf (res: ServerResponse): unknown {
  return (res as unknown as Http2Answer).stream?.session
}

/** End it now: with the 503 where its headers are not out. @param refuse writes the 503 */
export function breakOff ({ res, socket }: Carrier, refuse: (res: ServerResponse) => void): void {
  const { stream } = res as unknown as Http2Answer
  if (!res.headersSent && !res.writableEnded) refuse(res)
  // HTTP/2: one stream of many on its connection. CANCEL says that nothing is wrong with the rest (RFC 9113, section 7).
  else if (stream !== undefined) stream.close(http2Cancel)
  else if (!res.writableEnded || socket === null) res.destroy()
  else socket.destroy() // handed over whole, and its reader does not read
}

/**
 * Close an answer that waited behind another one on a connection that is gone. Node 24 does the same; Node 20 and 22 forget it:
 * it never closes, its stream is never destroyed, and `await reply` never ends.
 */
export function closeQueued (res: ServerResponse): void {
  if (res.closed) return
  markClosed(res)
  res.emit('close')
}
