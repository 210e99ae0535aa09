/**
 * Detached handlers: handlers that still run after their client has left. No resource may close under them, so their
 * requests stay in flight until the handler's code is done and its answer, which no client gets, has been sent or is not due.
 *
 * Signs for the code: an async handler's promise settles. A callback handler, or a hook that runs before the handler, has no
 * sign but its answer. Signs for the answer: Fastify ends the response or pipes a stream into it. If no sign comes, the
 * time limit ends the wait. Every path has it.
 */
import type { ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify'
import { kDetached } from '../symbols'
import { createLinkedList, type Linked } from '../util/linked-list'
import { overrideMethod } from '../util/replaced-methods'
import { every, now, turn } from '../util/time'
import { handlerResultOf, observeResult, whenSettled, type Remainder } from './handler-result'
import { endedBy, type Exchange } from './response'

/** A handler whose client has left. It is one object with shared functions, because many clients may leave at once. */
export interface Detached extends Linked<Detached> {
  readonly exchange: Exchange
  readonly reply: FastifyReply
  /** When its client left, by the clock of `util/time.ts`. */
  readonly since: number
  /** Called when the handler is done or its time is up, maybe more than once. */
  readonly onDone: () => void
  /** `await reply` listens for the end of the answer, which is then no sign of the handler's own end. */
  readonly awaitsAnswer: boolean
  /** The promise of an async handler is pending: its code still runs. */
  codeRuns: boolean
  /** The answer has been sent, or none is due. */
  answered: boolean
  /** The stream that was piped into the answer. */
  source: Source | null
  /** The methods that `watchAnswer` replaces. Other libraries may have replaced them before. */
  readonly end: ServerResponse['end']
  readonly send: FastifyReply['send']
  readonly then: FastifyReply['then']
}

export interface DetachedHandlers {
  /**
   * Follows a request whose client has left.
   *
   * @param source the stream that has been piped into the answer, if it is known
   * @param onDone called when the handler is done or its time is up, maybe more than once
   */
  follow(exchange: Exchange, reply: FastifyReply, source: Source | null, onDone: () => void): Detached
  /** Stops following: the request is over. */
  forget(detached: Detached): void
}

/** The part of a Readable that matters for its end. */
export interface Source {
  readonly destroyed: boolean
  readonly closed: boolean
  once(event: 'close', listener: () => void): unknown
}

/** A response whose client has left keeps its handler. */
type Followed = ServerResponse & { [kDetached]?: Detached }

/** How often the time limit is checked, in milliseconds. */
const sweepStep = 1_000

/** Returns a route's handler that does the same, and keeps what the handler returned. */
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

/** @param limit how long a handler may go on after its client has left, in milliseconds */
export function createDetachedHandlers (limit: number): DetachedHandlers {
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
        // A hijacked answer ends with its connection: there is no other sign.
        answered: res.headersSent || reply.sent || source !== null,
        source,
        end: res.end,
        send: reply.send,
        then: reply.then,
        previous: null,
        next: null
      }
      if (list.size === 0) stopSweeping = every(Math.min(sweepStep, Math.max(1, limit)), sweep)
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
    const due = now() - limit
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
    // A hook that ends the connection may not go on to the handler: it has one turn to do so.
    if (endedBy(exchange) !== 'client') void turn().then(() => { if (handlerResultOf(raw) === undefined) onAnswer(detached) })
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
  // Fastify destroys the source of an answer whose client has left. The source may have a cursor to return, or a file to close.
  // A source that is not destroyed after a turn is never read again and never closes (HTTP/2, sent after its client has left).
  void turn().then(() => {
    if (source !== null && source.destroyed && !source.closed) source.once('close', onDone)
    else onDone()
  })
}

/** Notices the answer that Fastify sends to a client that has left. */
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

/** Fastify neither ends nor pipes the response if the answer is a web stream. */
function sendUnread (this: FastifyReply, payload: unknown): FastifyReply {
  const detached = (this.raw as Followed)[kDetached]!
  if (payload instanceof ReadableStream || payload instanceof Response) onAnswer(detached)
  return detached.send.call(this, payload)
}

/** `return reply` in an async handler: its promise now waits for an answer that may never end (HTTP/2). */
function awaitUnread (this: FastifyReply, ...args: Parameters<FastifyReply['then']>): ReturnType<FastifyReply['then']> {
  const detached = (this.raw as Followed)[kDetached]!
  detached.codeRuns = false
  check(detached)
  return detached.then.apply(this, args)
}
