/** Reads the state of a response, and ends it. HTTP/1, HTTP/2 and inject differ in both. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { contentLengthOf, headersSent, markClosed } from '../util/node-internals'

/** NGHTTP2_CANCEL, without loading node:http2 for servers that do not use it. */
const http2Cancel = 8

/**
 * A request and its response, with the socket that carries them. The socket is read once, when the request arrives.
 * Node sets `req.socket` to null if the body is not read to its end (a `for await` that breaks, a `pipeline()` that
 * fails). It sets `res.socket` to null when the response is over, and while it waits behind another one.
 */
export interface Exchange {
  readonly res: ServerResponse
  /** The socket of the request. For inject it is not a Socket of `node:net`. */
  readonly socket: Socket | null
  /** Whether the app has destroyed the response. It is only set right before `close`. */
  readonly destroyedByServer?: boolean
}

/** The part of Http2ServerResponse that ServerResponse does not have. */
interface Http2Response {
  readonly stream?: {
    readonly aborted: boolean
    readonly destroyed: boolean
    readonly errored: unknown
    readonly rstCode: number
    readonly sentHeaders: Readonly<Record<string, unknown>> | undefined
    readonly session: { readonly destroyed: boolean } | undefined
    readonly writableEnded: boolean
    readonly writableNeedDrain: boolean
    close(code: number): void
    once(event: 'close', listener: () => void): unknown
  }
}

const streamOf = (res: ServerResponse): Http2Response['stream'] => (res as unknown as Http2Response).stream

/**
 * Returns whether an answer streams: its headers are sent, its body is not over, and its length is not known. An answer
 * that is ended and still being flushed is not a stream.
 */
export function isStream (res: ServerResponse): boolean {
  return headersSent(res) && !res.writableEnded && !hasKnownLength(res)
}

/** Returns whether the headers that were sent contain a valid Content-Length (RFC 9110, section 8.6). */
function hasKnownLength (res: ServerResponse): boolean {
  const stream = streamOf(res)
  const length = stream === undefined ? contentLengthOf(res) : headerOf(stream.sentHeaders ?? {}, 'content-length')
  return length != null && Number(length) >= 0
}

/** Returns the value of a header. `http2stream.respond()` keeps its headers as the app has written them. */
function headerOf (headers: Readonly<Record<string, unknown>>, name: string): unknown {
  return Object.entries(headers).find(([key]) => key.toLowerCase() === name)?.[1]
}

/** Returns whether the client reads too slowly: what is written now waits in memory. */
export function needsDrain (res: ServerResponse): boolean {
  return (streamOf(res) ?? res).writableNeedDrain
}

/**
 * Returns whether the response has closed. Not every response emits `close`: a pipelined response that waits on a
 * closed connection does not.
 */
export function isDisconnected ({ res, socket }: Exchange): boolean {
  return res.destroyed || streamOf(res)?.destroyed === true || socket?.destroyed === true
}

/**
 * Returns whether the whole response has reached the kernel. An HTTP/2 response also sets `writableFinished` if its
 * stream was reset. The response of inject closes before it is finished, and has no client that could leave.
 */
export function isFlushed ({ res, socket }: Exchange): boolean {
  const stream = streamOf(res)
  // The app may respond through the stream (`raw.stream.respond()`). The response itself never ends then.
  if (stream !== undefined) return (res.writableEnded || stream.writableEnded) && !stream.aborted
  if (!res.writableEnded) return false
  if (!(socket instanceof Socket)) return true
  // If the socket is destroyed before its data is sent, Node still emits `finish`.
  return res.writableFinished && (!socket.destroyed || socket.writableFinished)
}

/**
 * Returns which side ended a response that was not flushed. A socket that the server destroys has neither an error nor
 * an end. With HTTP/2, a stream that its client closes without an error looks like a stream that the server closes.
 */
export function endedBy ({ res, socket, destroyedByServer }: Exchange): 'client' | 'server' | 'unknown' {
  if (destroyedByServer === true) return 'server'
  const stream = streamOf(res)
  if (stream !== undefined) {
    if (hasNoCode(stream.errored)) return 'server'
    if (stream.rstCode !== 0) return 'client'
    return stream.session?.destroyed === false ? 'unknown' : 'server'
  }
  if (!(socket instanceof Socket)) return 'client'
  return hasNoCode(socket.errored) || (socket.errored == null && !socket.readableEnded) ? 'server' : 'client'
}

/** Returns whether the app created an error: the errors of Node and of its parsers have codes. */
function hasNoCode (error: unknown): boolean {
  return error != null && typeof (error as NodeJS.ErrnoException).code !== 'string'
}

/**
 * Returns whether a request waits for its client: the client does not read what was written, or has not sent the rest
 * of a body that the app reads.
 */
export function waitsForClient ({ res }: Exchange): boolean {
  if (res.writableEnded) return true
  // A pipelined answer without a socket waits for the answer before it.
  if (res.socket !== null && res.writableLength > 0) return true
  const { req } = res
  return hasConsumer(req) && !req.complete && req.readableLength === 0
}

/** Returns whether the app reads the body of a request. */
export function hasConsumer (req: IncomingMessage): boolean {
  return req.listenerCount('data') + req.listenerCount('readable') > 0
}

/** Returns the HTTP/2 session that carries a response. */
export function sessionOf (res: ServerResponse): unknown {
  return streamOf(res)?.session
}

/** Calls `listener` when the HTTP/2 stream of a response has closed, after the listeners of Node. */
export function onStreamClose (res: ServerResponse, listener: () => void): void {
  streamOf(res)?.once('close', listener)
}

/**
 * Ends a response now: with the 503 if its headers are not sent.
 *
 * @param reject writes the 503
 */
export function endResponse ({ res, socket }: Exchange, reject: (res: ServerResponse) => void): void {
  const stream = streamOf(res)
  if (!headersSent(res) && !res.writableEnded) reject(res)
  // With HTTP/2, only one stream of the session ends: CANCEL does not affect the others (RFC 9113, section 7).
  else if (stream !== undefined) stream.close(http2Cancel)
  else if (!res.writableEnded || socket === null) res.destroy()
  else socket.destroy() // Ended, but its client does not read.
}

/**
 * Closes a response that waits behind another one when the connection has closed. Node 24 does the same. In Node 20 and
 * 22 it never closes: its stream is not destroyed, and `await reply` does not end.
 */
export function closeQueuedResponse (res: ServerResponse): void {
  if (res.closed) return
  markClosed(res)
  res.emit('close')
}
