/**
 * Closes HTTP/1 connections: their last answer has the header `Connection: close`, and the connection ends after it
 * (RFC 9112, section 9.6).
 *
 * Node closes the connection after an answer with this header, and drops the pipelined answers behind it. So only the
 * last answer on a connection has the header. If one more request arrives, the header is removed from the answer before
 * it.
 *
 * A socket that is closed while the client still sends is reset, and the client loses the answer that it has not read.
 * So the rest of a request's body is read and dropped before the socket is destroyed.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { kLastAnswer } from '../symbols'
import { headersSent } from '../util/node-internals'
import { delayDestroy, destroyWhenFlushed, dropBody } from '../util/replaced-methods'
import { after, within } from '../util/time'
import { hasConsumer, type Exchange } from './response'

/** Longest time that the rest of a request's body is read, in milliseconds. */
const readTimeout = 2_000

/** Closes HTTP/1 connections after their last answer. */
export interface ConnectionClose {
  /** Makes this answer the last one on its connection. It ignores HTTP/2, which has GOAWAY for a session. */
  announceClose(exchange: Exchange): void
  /** Closes the connection after its last answer, also if these headers were sent before `announceClose`. */
  closeAfterResponse(exchange: Exchange): void
  /** Resolves when no body of a request is being read, at the latest after `ms` milliseconds. */
  untilClosed(ms: number): Promise<void>
}

/** The last answer on a connection. `keepAlive`: whether Node would keep the connection open without our header. */
interface LastAnswer {
  readonly res: ServerResponse
  readonly keepAlive: boolean
}

/** A socket with its last answer. */
type ClosingSocket = Socket & { [kLastAnswer]?: LastAnswer | undefined }

/** Creates a `ConnectionClose` without connections. */
export function createConnectionClose (): ConnectionClose {
  /** Sockets that wait for the rest of a request's body. */
  const reading = new Set<Promise<void>>()

  return {
    announceClose ({ res, socket: given }) {
      const socket: ClosingSocket | null = given
      if (socket === null || res.req.httpVersionMajor > 1) return
      if (hasBody(res.req)) readBeforeClose(res.req, socket)
      const before = socket[kLastAnswer]
      if (before !== undefined && !headersSent(before.res)) before.res.shouldKeepAlive = before.keepAlive
      socket[kLastAnswer] = { res, keepAlive: res.shouldKeepAlive }
      if (!headersSent(res)) res.shouldKeepAlive = false
    },
    closeAfterResponse (exchange) {
      if (!isLastAnswer(exchange)) return
      const socket = exchange.socket as ClosingSocket
      socket[kLastAnswer] = undefined
      destroyWhenFlushed(socket)
    },
    async untilClosed (ms) {
      if (reading.size > 0) await within(ms, () => Promise.all(reading))
    }
  }

  function readBeforeClose (req: IncomingMessage, socket: Socket): void {
    let began = false
    // Node and `closeAfterResponse` both destroy the socket. The second call must not end the wait of the first.
    delayDestroy(socket, () => {
      if (began) return false
      if (req.complete || socket.destroyed) return true
      began = true
      const over = readToEnd(req, socket)
      reading.add(over)
      void over.then(() => reading.delete(over))
      return false
    })
  }
}

/** Returns whether an answer is the last one on its connection, since `announceClose`. */
export function isLastAnswer ({ res, socket }: Exchange): boolean {
  return (socket as ClosingSocket | null)?.[kLastAnswer]?.res === res
}

/** Returns whether a request has a body, which may not have arrived yet (RFC 9112, section 6.3). */
function hasBody ({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

/** Ends our side of the connection, and reads until the body is over, the client has left, or the time is up. */
function readToEnd (req: IncomingMessage, socket: Socket): Promise<void> {
  return new Promise(resolve => {
    const cancel = after(readTimeout, end)
    socket.once('close', end)
    req.once('end', end)
    socket.end()
    // A consumer of the body may stop the socket, as a pipe to a slow destination does. So it gets no more of the body,
    // and its stream is destroyed at the end.
    const isRead = hasConsumer(req)
    if (isRead) {
      dropBody(req, end)
      socket.resume()
    }
    req.resume()

    function end (): void {
      cancel()
      socket.removeListener('close', end)
      req.removeListener('end', end)
      if (isRead) req.destroy()
      socket.destroy()
      resolve()
    }
  })
}
