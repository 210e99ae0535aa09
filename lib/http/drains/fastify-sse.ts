/**
 * The drain of open connections of @fastify/sse. A handler may end its own connection, or its source may be a stream of
 * `shutdown.stream()`. A connection that is still open after that gets the default end marker, and is closed. A
 * connection with a category stays open, because it has a time of its own.
 */
import type { ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import type { OnProblem } from '../../lifecycle/problems'
import { every, inTime } from '../../util/time'
import { endEvent } from '../../util/sse'
import type { InFlightTable } from '../in-flight'
import { isStream, needsDrain } from '../response'
import type { Drain } from './drain'

/** The part of `reply.sse` that is used here. */
interface SseContext {
  readonly isConnected: boolean
  /** Whether the connection stays open after its handler. */
  readonly shouldKeepAlive: boolean
  send(message: object): Promise<void>
  close(): void
}

/** Time for a handler to end its own connection, and interval between two checks, in milliseconds. */
const step = 100

/**
 * Creates the drain of open connections of @fastify/sse.
 *
 * @param onProblem called if a connection cannot be ended. It is then cut as any other stream.
 */
export function createFastifySseDrain (
  table: InFlightTable, onProblem: OnProblem
): Drain {
  /** The replies that have got the marker, or that threw an error. */
  const ended = new WeakSet<FastifyReply>()
  let stop = (): void => {}

  return {
    name: '@fastify/sse',
    timeout: Infinity,
    beginDraining () {
      // Repeatedly, because a request in flight may still open a connection, and a client may read slowly.
      stop = every(step, endAllOpen)
    },
    async drain (ms) {
      try {
        await inTime(ms, table.untilAnswered())
      } finally {
        stop()
      }
      return 'clean'
    },
    pending: () => []
  }

  /** An error in a timer would be an uncaught exception. */
  function endAllOpen (): void {
    try {
      table.replies().forEach(endIfOpen)
    } catch (error) {
      stop()
      onProblem('The connections of @fastify/sse could not be ended', error)
    }
  }

  function endIfOpen (reply: FastifyReply): void {
    if (ended.has(reply)) return
    new Promise<void>(resolve => {
      const sse = sseOf(reply)
      if (sse === undefined || !isOpen(reply.raw, sse)) return resolve()
      ended.add(reply)
      // `send` writes at once, and `close` ends the response after it.
      resolve(sse.send(endEvent))
      sse.close()
    }).catch(error => {
      ended.add(reply)
      onProblem('A connection of @fastify/sse got no end marker', error)
    })
  }
}

/** Returns whether a connection is open, and would send a message at once. */
function isOpen (res: ServerResponse, { isConnected, shouldKeepAlive }: SseContext): boolean {
  return isConnected && !needsDrain(res) && (isStream(res) || (shouldKeepAlive && !res.headersSent))
}

/** Returns `reply.sse` of @fastify/sse. Other libraries use the same name for something else. */
function sseOf (reply: FastifyReply): SseContext | undefined {
  const { sse } = reply as { readonly sse?: Partial<SseContext> }
  const isContext = typeof sse?.isConnected === 'boolean' &&
    typeof sse.send === 'function' &&
    typeof sse.close === 'function'
  return isContext ? sse as SseContext : undefined
}
