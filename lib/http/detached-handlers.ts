/**
 * Detached handlers: handlers that still run after their client has left. A handler may still use resources, so its
 * request stays in flight until two things hold: its code is over, and its answer has been sent or is not expected. No
 * client receives that answer.
 *
 * The code of an async handler is over when its promise settles. The code of a callback handler, or of a hook before
 * the handler, counts as over when its answer is sent. The answer is sent when Fastify ends the response, or pipes a
 * stream into it. If neither happens, the timeout ends the wait.
 */
import type { ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify'
import { kDetached } from '../symbols'
import { createLinkedList, type Linked } from '../util/linked-list'
import { overrideMethod } from '../util/replaced-methods'
import { every, now, turn } from '../util/time'
import { handlerResultOf, observeResult, whenSettled, type Remainder } from './handler-result'
import { endedBy, type Exchange } from './response'

/** A handler whose client has left. It has no functions of its own, because many clients may leave at the same time. */
export interface Detached extends Linked<Detached> {
  readonly exchange: Exchange
  readonly reply: FastifyReply
  /** The time at which its client left, by the clock of `util/time.ts`. */
  readonly since: number
  /** Called when the handler is over or its time is up, maybe more than once. */
  readonly onDone: () => void
  /** Whether the handler uses `await reply`. Its code then waits for the end of the answer. */
  readonly awaitsAnswer: boolean
  /** Whether the promise of an async handler is pending: its code still runs. */
  codeRuns: boolean
  /** Whether the answer has been sent, or none is expected. */
  answered: boolean
  /** The stream that was piped into the answer. */
  source: Source | null
  /** The methods that `watchAnswer` replaces. Other libraries may have replaced them before. */
  readonly end: ServerResponse['end']
  readonly send: FastifyReply['send']
  readonly then: FastifyReply['then']
}

/** The detached handlers of all requests. */
export interface DetachedHandlers {
  /**
   * Follows a request whose client has left.
   *
   * @param source the stream that has been piped into the answer, if it is known
   * @param onDone called when the handler is over or its time is up, maybe more than once
   */
  follow(exchange: Exchange, reply: FastifyReply, source: Source | null, onDone: () => void): Detached
  /** Stops following: the request is over. */
  forget(detached: Detached): void
}

/** The part of a Readable that shows its end. */
export interface Source {
  readonly destroyed: boolean
  readonly closed: boolean
  once(event: 'close', listener: () => void): unknown
}

/** A response with its detached handler. */
type Followed = ServerResponse & { [kDetached]?: Detached }

/** How often the timeout is checked, in milliseconds. */
const sweepStep = 1_000

/** Wraps the handler of a route, to record what the handler returns. */
export function wrapHandler (handler: RouteHandlerMethod): RouteHandlerMethod {
  return function (this: FastifyInstance, request, reply) {
    const returned = handler.call(this, request, reply) as unknown
    // @fastify/websocket calls the handler of its routes with a WebSocket in the place of the request.
    if ((request as Partial<FastifyRequest>).raw === undefined) return returned
    const result = observeResult(request, reply, returned)
    // The client left while an earlier hook ran.
    const detached = (reply.raw as Followed)[kDetached]
    if (detached !== undefined) followHandler(detached)
    return result
  } as RouteHandlerMethod
}

/** Creates an empty list. @param timeout longest time of a handler after its client has left, in milliseconds */
export function createDetachedHandlers (timeout: number): DetachedHandlers {
  /** In the order in which their clients left. */
  const list = createLinkedList<Detached>()
  let stopSweeping = (): void => {}

  return {
    follow (exchange, reply, source, onDone) {
      const { res } = exchange
      const detached: Detached = {
        exchange,
        reply,
        since: now(),
        onDone,
        awaitsAnswer: res.listenerCount('end') > 0,
        codeRuns: false,
        // A hijacked answer ends with its connection. No other event shows its end.
        answered: res.headersSent || reply.sent || source !== null,
        source,
        end: res.end,
        send: reply.send,
        then: reply.then,
        previous: null,
        next: null
      }
      if (list.size === 0) stopSweeping = every(Math.min(sweepStep, Math.max(1, timeout)), sweep)
      list.add(detached)
      watchAnswer(detached)
      followHandler(detached)
      return detached
    },
    forget (detached) {
      list.remove(detached)
      if (list.size === 0) stopSweeping()
    }
  }

  function sweep (): void {
    const due = now() - timeout
    for (const { since, onDone } of list.toArray()) {
      if (since > due) break
      onDone()
    }
  }
}

/** Follows a handler that runs, or that begins now because an async hook has just finished. */
function followHandler (detached: Detached): void {
  const { exchange, reply } = detached
  const { raw } = reply.request
  const result = handlerResultOf(raw)
  if (result === undefined) {
    // A hook that has ended the connection may never call the handler. It has one turn of the event loop to do so.
    if (endedBy(exchange) !== 'client') {
      void turn().then(() => { if (handlerResultOf(raw) === undefined) onAnswer(detached) })
    }
  } else if (result === 'callback') {
    if (endedBy(exchange) === 'server') detached.answered = true
  } else {
    detached.codeRuns = true
    whenSettled(result, reply, remainder => onSettled(detached, remainder))
  }
  check(detached)
}

function onSettled (detached: Detached, remainder: Remainder): void {
  detached.codeRuns = false
  if (remainder === 'nothing' && !detached.awaitsAnswer) detached.answered = true
  check(detached)
}

function onAnswer (detached: Detached): void {
  detached.answered = true
  check(detached)
}

function check ({ codeRuns, answered, source, onDone }: Detached): void {
  if (codeRuns || !answered) return
  // Fastify destroys the source of an answer whose client has left. The wait includes the close of the source, which
  // may use a file or a database cursor. A source that is not destroyed after a turn never closes (HTTP/2, if it is
  // sent after its client has left).
  void turn().then(() => {
    if (source !== null && source.destroyed && !source.closed) source.once('close', onDone)
    else onDone()
  })
}

/** Detects the answer that Fastify sends after the client has left. */
function watchAnswer (detached: Detached): void {
  const { exchange: { res }, reply } = detached
  ;(res as Followed)[kDetached] = detached
  // A stream that was the answer is unpiped while the HTTP/1 response emits `close`; another one may be sent later.
  res.once('unpipe', onPipe)
  res.once('pipe', onPipe)
  overrideMethod(res, 'end', endUnread)
  overrideMethod(reply, 'send', sendUnread as typeof reply.send)
  overrideMethod(reply, 'then', awaitUnread)
}

function onPipe (this: Followed, source: Source): void {
  const detached = this[kDetached]!
  detached.source = source
  onAnswer(detached)
}

const endUnread = function (this: Followed, ...args: unknown[]): ServerResponse {
  const detached = this[kDetached]!
  onAnswer(detached)
  return (detached.end as (...args: unknown[]) => ServerResponse).apply(this, args)
} as ServerResponse['end']

/** Detects a web stream, because Fastify then neither ends the response nor pipes into it. */
function sendUnread (this: FastifyReply, payload: unknown): FastifyReply {
  const detached = (this.raw as Followed)[kDetached]!
  if (payload instanceof ReadableStream || payload instanceof Response) onAnswer(detached)
  return detached.send.call(this, payload)
}

/** Detects `return reply` in an async handler: its promise now waits for an answer that may never end (HTTP/2). */
function awaitUnread (this: FastifyReply, ...args: Parameters<FastifyReply['then']>): ReturnType<FastifyReply['then']> {
  const detached = (this.raw as Followed)[kDetached]!
  detached.codeRuns = false
  check(detached)
  return detached.then.apply(this, args)
}
