/**
 * Detached handlers: handlers that still run after their client has left. A handler may still use resources, so its
 * request stays in flight until two things hold: its code is over, and its answer has been sent or is not expected. No
 * client receives that answer.
 *
 * The code of an async handler, hook or error handler is over when its promise settles. The code of a callback handler,
 * or of a hook before the handler, counts as over when its answer is sent. The answer is sent when Fastify ends the
 * response, or pipes a stream into it. If neither happens, the timeout ends the wait.
 *
 * A handler that has hijacked the reply sends its answer itself. If it has written something, it streams, and its next
 * write fails. If it listens to the close of the request or response, it knows that the client has left. In both cases
 * it is over. Otherwise its code is over when it ends or destroys the response.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify'
import { kAbortHook, kDetached, kErrorHandler, kHook } from '../symbols'
import { createLinkedList, type Linked } from '../util/linked-list'
import { overrideMethod } from '../util/replaced-methods'
import { every, now, turn } from '../util/time'
import { handlerResultOf, observeResult, whenSettled, type HandlerResult, type Remainder } from './handler-result'
import { endedBy, headersSent, type Exchange } from './response'

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
  /** The results of async code that is pending: the handler, an error handler or a hook still runs. */
  readonly running: Set<Exclude<HandlerResult, 'callback'>>
  /** Whether its client had left when the current code settles. Fastify then sends no answer for `undefined`. */
  left: boolean
  /** Whether the handler had hijacked the reply when its client left. */
  readonly hijacked: boolean
  /** Whether the answer has been sent, or none is expected. */
  answered: boolean
  /** The stream that was piped into the answer. */
  source: Source | null
  /** The methods that `watchAnswer` replaces. Other libraries may have replaced them before. */
  readonly end: ServerResponse['end']
  readonly destroy: ServerResponse['destroy']
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

/** A request with its detached handler, and with the promises of its hooks: see `observed-hooks.ts`. */
type Followed = IncomingMessage & {
  [kDetached]?: Detached
  [kErrorHandler]?: Promise<unknown>
  [kHook]?: Promise<unknown>
  [kAbortHook]?: Promise<unknown>
}

const hookSlots = [kErrorHandler, kHook, kAbortHook] as const

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
    const detached = (request.raw as Followed)[kDetached]
    if (detached !== undefined) followHandler(detached)
    return result
  } as RouteHandlerMethod
}

/** Follows an error handler or a hook that has returned a promise, if the client has left. */
export function followCode (req: IncomingMessage, slot: typeof hookSlots[number], result: Promise<unknown>): void {
  const detached = (req as Followed)[kDetached]
  if (detached !== undefined) waitForCode(detached, slot, result)
}

/** Creates an empty list. @param timeout longest time of a handler after its client has left, in milliseconds */
export function createDetachedHandlers (timeout: number): DetachedHandlers {
  /** In the order in which their clients left. */
  const list = createLinkedList<Detached>()
  let stopSweeping = (): void => {}

  return {
    follow (exchange, reply, source, onDone) {
      const { res } = exchange
      const hijacked = reply.sent && !res.writableEnded
      const detached: Detached = {
        exchange,
        reply,
        since: now(),
        onDone,
        awaitsAnswer: res.listenerCount('end') > 0,
        running: new Set(),
        left: false,
        hijacked,
        answered: headersSent(res) || res.writableEnded || source !== null ||
          (hijacked && (endedBy(exchange) !== 'client' || listensToClose(res))),
        source,
        end: res.end,
        destroy: res.destroy,
        send: reply.send,
        then: reply.then,
        previous: null,
        next: null
      }
      if (list.size === 0) stopSweeping = every(Math.min(sweepStep, Math.max(1, timeout)), sweep)
      list.add(detached)
      watchAnswer(detached)
      followHandler(detached)
      for (const slot of hookSlots) {
        const result = (res.req as Followed)[slot]
        if (result !== undefined) waitForCode(detached, slot, result)
      }
      // The listeners of a promise that has settled before run before this.
      queueMicrotask(() => { detached.left = true })
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
    detached.running.add(result)
    whenSettled(result, reply, remainder => onSettled(detached, result, remainder))
  }
  check(detached)
}

function onSettled (detached: Detached, result: Exclude<HandlerResult, 'callback'>, remainder: Remainder): void {
  detached.running.delete(result)
  // A handler that hijacked and had returned before its client left works on in callbacks.
  const worksOn = detached.hijacked && !detached.left
  if (remainder === 'nothing' && !detached.awaitsAnswer && !worksOn) detached.answered = true
  check(detached)
}

function waitForCode (detached: Detached, slot: typeof hookSlots[number], result: Promise<unknown>): void {
  detached.running.add(result)
  const onOver = (value: unknown): void => {
    detached.running.delete(result)
    if (slot === kErrorHandler && value === undefined && detached.left) detached.answered = true
    check(detached)
  }
  result.then(onOver, onOver)
}

/** Returns whether the app listens to the close of the request, or of the response, to which this plugin listens. */
function listensToClose (res: ServerResponse): boolean {
  return res.req.listenerCount('close') > 0 || res.listenerCount('close') > 1
}

function onAnswer (detached: Detached): void {
  detached.answered = true
  check(detached)
}

function check ({ running, answered, source, onDone }: Detached): void {
  if (running.size > 0 || !answered) return
  // Fastify destroys the source of an answer whose client has left. The wait includes the close of the source, which
  // may use a file or a database cursor. A source that is not destroyed after a turn never closes (HTTP/2, if it is
  // sent after its client has left).
  void turn().then(() => {
    // The next hook may have begun.
    if (running.size > 0) return
    if (source !== null && source.destroyed && !source.closed) source.once('close', onDone)
    else onDone()
  })
}

/** Detects the answer that Fastify sends after the client has left. */
function watchAnswer (detached: Detached): void {
  const { exchange: { res }, reply } = detached
  ;(res.req as Followed)[kDetached] = detached
  // A stream that was the answer is unpiped while the HTTP/1 response emits `close`; another one may be sent later.
  res.once('unpipe', onPipe)
  res.once('pipe', onPipe)
  overrideMethod(res, 'end', endUnread)
  overrideMethod(res, 'destroy', destroyUnread)
  overrideMethod(reply, 'send', sendUnread as typeof reply.send)
  overrideMethod(reply, 'then', awaitUnread)
}

function onPipe (this: ServerResponse, source: Source): void {
  const detached = detachedOf(this)
  detached.source = source
  onAnswer(detached)
}

const endUnread = function (this: ServerResponse, ...args: unknown[]): ServerResponse {
  const detached = detachedOf(this)
  onAnswer(detached)
  return (detached.end as (...args: unknown[]) => ServerResponse).apply(this, args)
} as ServerResponse['end']

const destroyUnread = function (this: ServerResponse, error?: Error): ServerResponse {
  const detached = detachedOf(this)
  onAnswer(detached)
  return detached.destroy.call(this, error)
} as ServerResponse['destroy']

/** Detects a web stream, because Fastify then neither ends the response nor pipes into it. */
function sendUnread (this: FastifyReply, payload: unknown): FastifyReply {
  const detached = detachedOf(this.raw)
  if (payload instanceof ReadableStream || payload instanceof Response) onAnswer(detached)
  return detached.send.call(this, payload)
}

/** Detects `return reply` in an async handler: its promise now waits for an answer that may never end (HTTP/2). */
function awaitUnread (this: FastifyReply, ...args: Parameters<FastifyReply['then']>): ReturnType<FastifyReply['then']> {
  const detached = detachedOf(this.raw)
  const result = handlerResultOf(this.request.raw)
  if (result !== undefined && result !== 'callback') detached.running.delete(result)
  check(detached)
  return detached.then.apply(this, args)
}

function detachedOf (res: ServerResponse): Detached {
  return (res.req as Followed)[kDetached]!
}
