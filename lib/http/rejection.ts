/** How a server says "not now": 503 with Retry-After (RFC 9110, sections 15.6.4 and 10.2.3), whoever has to say it. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { ShutdownOptionError, received } from '../errors'
import { defaultRetryAfter, isRetryAfter } from '../options'
import type { ShutdownState } from '../../types/index'

export interface Refusal {
  /** Whole seconds for one answer; what a user's function gets wrong is told and replaced by the default. */
  retryAfter(): number
  /** The whole 503 where no Fastify reply is at hand any more. */
  answer(res: ServerResponse): void
  /** The whole 503 for an upgrade, which has a socket and no response. */
  upgradeAnswer(): string
}

/**
 * HTTP/2: a stream that nobody reads is closed with its answer, and its session with the last stream, where GOAWAY was said. The
 * socket is then reset under whoever still sends, and takes the answer along. What is read is waited for. HTTP/1 has its linger.
 */
export function readOn (req: IncomingMessage): void {
  if (req.httpVersionMajor > 1) req.resume()
}

const body = JSON.stringify({ statusCode: 503, code: 'FST_ERR_SHUTDOWN_DRAINING', error: 'Service Unavailable', message: 'The server is shutting down, please try again' })

export function createRefusal (
  choose: (state: ShutdownState) => number,
  state: () => ShutdownState,
  onProblem: (message: string, error: unknown) => void
): Refusal {
  return { retryAfter, answer, upgradeAnswer }

  function retryAfter (): number {
    try {
      const seconds = choose(state())
      if (isRetryAfter(seconds)) return seconds
      throw new ShutdownOptionError(`Expected 'retryAfter' to return a whole number of seconds >= 0, got ${received(seconds)}`)
    } catch (error) {
      onProblem(`'retryAfter' failed, ${defaultRetryAfter} is sent instead`, error)
      return defaultRetryAfter
    }
  }

  function answer (res: ServerResponse): void {
    try {
      write(res)
    } catch (error) {
      // Middleware that has put itself before `writeHead` may throw, and nobody else may wait for that.
      onProblem('A 503 could not be written, its connection ends without', error)
      res.destroy()
    }
  }

  function write (res: ServerResponse): void {
    // Nothing of the answer in whose place it stands: its encoding is not ours, its cookies are not due, and nobody may cache this.
    // The connection's own header stays: once removed, Node says no `Connection: close` either.
    for (const name of res.getHeaderNames()) if (name !== 'connection') res.removeHeader(name)
    const headers: Record<string, string | number> = {
      'content-type': 'application/json; charset=utf-8', 'content-length': Buffer.byteLength(body), 'retry-after': retryAfter()
    }
    // `Connection: close` is said by the table, on the last answer of a connection only: behind it Node throws away the rest.
    readOn(res.req)
    res.writeHead(503, headers)
    res.end(body)
  }

  function upgradeAnswer (): string {
    return 'HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: application/json; charset=utf-8\r\n' +
      `Content-Length: ${Buffer.byteLength(body)}\r\nRetry-After: ${retryAfter()}\r\n\r\n${body}`
  }
}
