/** The 503 with Retry-After that a request gets while the server drains (RFC 9110, sections 15.6.4 and 10.2.3). */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { ShutdownOptionError, received } from '../errors'
import { defaultRetryAfter, isRetryAfter } from '../options'
import { turn } from '../util/time'
import type { ShutdownState } from '../../types/index'
import type { OnProblem } from '../lifecycle/problems'

/** The body of the 503: an error as Fastify's own error handler sends it. */
export const rejectionBody = JSON.stringify({
  statusCode: 503,
  code: 'FST_ERR_SHUTDOWN_DRAINING',
  error: 'Service Unavailable',
  message: 'The server is shutting down, please try again'
})

/** The type of the body. */
export const rejectionType = 'application/json; charset=utf-8'

/** The 503. */
export interface Rejection {
  /** The state of the shutdown. */
  readonly state: ShutdownState
  /**
   * Returns the Retry-After of one answer, in seconds. If the user's function fails, the error is reported, and the
   * default is returned.
   */
  retryAfter(): number
  /** Writes the whole 503 of a response. Used if there is no reply of Fastify. */
  rejectRequest(res: ServerResponse): void
  /** Returns the whole 503 as text. Used for an upgrade, which has a socket and no response. */
  upgradeResponse(): string
}

/**
 * Creates the 503.
 *
 * @param choose the option `retryAfter`
 * @param onProblem called if `choose` fails, or if the 503 cannot be written
 */
export function createRejection (
  choose: (state: ShutdownState) => number,
  state: () => ShutdownState,
  onProblem: OnProblem
): Rejection {
  return {
    get state () { return state() },
    retryAfter,
    rejectRequest,
    upgradeResponse
  }

  function retryAfter (): number {
    try {
      const seconds = choose(state())
      if (isRetryAfter(seconds)) return seconds
      throw new ShutdownOptionError(
        `Expected 'retryAfter' to return a whole number of seconds >= 0, got ${received(seconds)}`
      )
    } catch (error) {
      onProblem(`'retryAfter' failed: ${defaultRetryAfter} is sent`, error)
      return defaultRetryAfter
    }
  }

  function rejectRequest (res: ServerResponse): void {
    try {
      write(res)
    } catch (error) {
      // Middleware may have replaced `writeHead`, and may throw. The shutdown must not wait for this answer.
      onProblem('A 503 could not be written: its connection is closed', error)
      // A turn later, because the caller may be inside an event of this response.
      void turn().then(() => res.destroy())
    }
  }

  function write (res: ServerResponse): void {
    // The headers of the replaced answer are removed: encoding, cookies, caching. `Connection` stays, because after its
    // removal Node never sends `Connection: close`. The table sets it on the last answer of a connection.
    for (const name of res.getHeaderNames()) if (name !== 'connection') res.removeHeader(name)
    readHttp2Body(res.req)
    const headers: Record<string, string | number> = {
      'content-type': rejectionType,
      'content-length': Buffer.byteLength(rejectionBody),
      'retry-after': retryAfter()
    }
    res.writeHead(503, headers)
    res.end(rejectionBody)
  }

  function upgradeResponse (): string {
    return 'HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n' +
      `Content-Type: ${rejectionType}\r\n` +
      `Content-Length: ${Buffer.byteLength(rejectionBody)}\r\nRetry-After: ${retryAfter()}\r\n\r\n${rejectionBody}`
  }
}

/**
 * Reads and drops the body of a rejected HTTP/2 request. If the body is not read, the stream closes with its answer,
 * and after GOAWAY the session closes with its last stream. The socket would be reset while the client still sends, and
 * the client would lose the answer. For HTTP/1, `connection-close.ts` does this.
 */
export function readHttp2Body (req: IncomingMessage): void {
  if (req.httpVersionMajor > 1) req.resume()
}
