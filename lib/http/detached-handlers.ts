/**
 * Detached handlers: handlers that still run after their client has left. No resource may close under them, so their
 * requests stay in flight until the handler's code is done and its answer, which no client gets, has been sent or is not due.
 *
 * Signs for the code: an async handler's promise settles. A callback handler, or a hook that runs before the handler, has no
 * sign but its answer. Signs for the answer: Fastify ends the response or pipes a stream into it. Where no sign comes, the
 * time limit ends the wait. Every path has it.
 *
 * Nothing that a handler returned is called here, except a native Promise: a query builder (knex, drizzle, mongoose) runs its
 * query once for each call of `then`, and that call belongs to Fastify. `observeHandler` sees Fastify's own.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { types } from 'node:util'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { endedBy, type Carrier } from './response'
import { every, now, turn } from '../util/time'
import { createLinkedList, type Linked } from '../util/linked-list'
import { overrideMethod } from '../util/replaced-methods'
import { kDetached, kHandler } from '../symbols'

/** A handler whose client has left. One object with shared functions: a flood of clients that leave makes many at once. */
export interface Detached extends Linked<Detached> {
  readonly carrier: Carrier
  readonly reply: FastifyReply
  /** When its client left, by the clock of `deadline.ts`. */
  readonly since: number
  /** Called when the handler is done or its time is up, maybe more than once. */
  readonly over: () => void
  /** `await reply` listens for the end of the answer, which is then no sign of the handler's own end. */
  readonly awaitsAnswer: boolean
  /** Where an async handler's promise is pending, its code still runs. */
  codeRuns: boolean
  answered: boolean
  /** The stream that has been piped into the answer. */
  source: Source | null
  /** The methods that `watchAnswer` replaces; other libraries may have replaced them before. */
  readonly end: ServerResponse['end']
  readonly send: FastifyReply['send']
  readonly then: FastifyReply['then']
}

export interface DetachedHandlers {
  /**
   * The client of this request has left. `over` is called when the handler is done or its time is up, maybe more than once.
   *
   * @param source the stream that has been piped into the answer, where it is known
   */
  follow(carrier: Carrier, reply: FastifyReply, source: Source | null, over: () => void): Detached
  /** Its request is over. */
  forget(detached: Detached): void
}

/** What a handler that has settled still has to send. Fastify sends nothing where a promise resolves to `undefined`. */
type Settled = 'nothing' | 'something'

/** A thenable that is no native Promise, seen through Fastify's own call of `then`. */
interface Observed {
  settled: Settled | null
  onSettled: ((still: Settled) => void) | null
}

/** What is known of a handler that has begun. Nothing is known of a request that is still in its hooks. */
type Handler = Promise<unknown> | Observed | 'callback'

/** The part of a Readable that matters for its end. */
export interface Source {
  readonly destroyed: boolean
  readonly closed: boolean
  once(event: 'close', listener: () => void): unknown
}

type Handled = IncomingMessage & { [kHandler]?: Handler }

type Followed = ServerResponse & { [kDetached]?: Detached }

/** How often the time limit is checked, in milliseconds. */
const sweepStep = 1_000

/**
 * Remember how a handler will end.
 *
 * @returns what Fastify gets in the place of `result`: the same value, or for a thenable that is no native Promise an object
 *   that passes `then` on
 */
export function observeHandler (request: FastifyRequest, reply: FastifyReply, result: unknown): unknown {
  if (result === undefined || result === reply) {
    if (!reply.raw.writableEnded) (request.raw as Handled)[kHandler] = 'callback'
    return result
  }
  if (isNativePromise(result)) {
    (request.raw as Handled)[kHandler] = result
    return result
  }
  return isThenable(result) ? observeThenable(request, result) : result
}

function observeThenable (request: FastifyRequest, thenable: PromiseLike<unknown>): PromiseLike<unknown> {
  const observed: Observed = { settled: null, onSettled: null }
  ;(request.raw as Handled)[kHandler] = observed
  return passThen(thenable, still => {
    observed.settled = still
    observed.onSettled?.(still)
  })
}

/** @param limit how long a handler may go on after its client has left, in milliseconds */
export function createDetachedHandlers (limit: number): DetachedHandlers {
  /** In the order in which their clients left. */
  const all = createLinkedList<Detached>()
  let stopSweeping = (): void => {}

  return {
    follow (carrier, reply, source, over) {
      const detached: Detached = {
        carrier,
        reply,
        since: now(),
        over,
        awaitsAnswer: carrier.res.listenerCount('end') > 0,
        codeRuns: false,
        // A hijacked answer is over with its connection: there is no other sign.
        answered: carrier.res.headersSent || reply.sent || source !== null,
        source,
        end: carrier.res.end,
        send: reply.send,
        then: reply.then,
        previous: null,
        next: null
      }
      if (all.size === 0) stopSweeping = every(Math.min(sweepStep, Math.max(1, limit)), sweep)
      all.add(detached)
      watchAnswer(detached)
      followHandler(detached)
      return detached
    },
    forget (detached) {
      all.remove(detached)
      if (all.size === 0) stopSweeping()
    }
  }

  function sweep (): void {
    const due = now() - limit
    for (const { since, over } of all.toArray()) {
      if (since > due) break
      over()
    }
  }
}

/** Follow a handler that runs, or that begins now because an async hook has just finished. */
export function followHandler (detached: Detached): void {
  const { carrier, reply } = detached
  const handler = (reply.request.raw as Handled)[kHandler]
  if (handler === undefined) {
    // A hook that ends the connection need not go on to the handler: it has one turn to do so.
    if (endedBy(carrier) !== 'client') void turn().then(() => { if ((reply.request.raw as Handled)[kHandler] === undefined) onAnswer(detached) })
  } else if (handler === 'callback') {
    if (endedBy(carrier) === 'server') detached.answered = true
  } else {
    detached.codeRuns = true
    if (isNativePromise(handler)) handler.then(value => onSettled(detached, whatIsLeft(reply, value)), () => onSettled(detached, whatIsLeft(reply, reply)))
    else if (handler.settled !== null) onSettled(detached, handler.settled)
    else handler.onSettled = still => onSettled(detached, still)
  }
  check(detached)
}

function onSettled (detached: Detached, still: Settled): void {
  detached.codeRuns = false
  if (still === 'nothing' && !detached.awaitsAnswer) detached.answered = true
  check(detached)
}

function onAnswer (detached: Detached): void {
  detached.answered = true
  check(detached)
}

function check ({ codeRuns, answered, source, over }: Detached): void {
  if (codeRuns || !answered) return
  // Fastify destroys the source of an answer whose client has left. It may have a cursor to give back, or a file to close.
  // A source that is not destroyed after a turn is never read again and never closes (HTTP/2, sent after its client has left).
  void turn().then(() => {
    if (source !== null && source.destroyed && !source.closed) source.once('close', over)
    else over()
  })
}

/** See the answer that Fastify sends to a client that has left. */
function watchAnswer (detached: Detached): void {
  const { carrier: { res }, reply } = detached
  ;(res as Followed)[kDetached] = detached
  // A stream that was the answer comes off while HTTP/1's response emits `close`; one may still be sent later.
  res.once('unpipe', onPipe)
  res.once('pipe', onPipe)
  overrideMethod(res, 'end', endUnread)
  overrideMethod(reply, 'send', sendUnread as typeof reply.send)
  overrideMethod(reply, 'then', adopt)
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

/** Fastify neither ends nor pipes where the answer is a web stream. */
function sendUnread (this: FastifyReply, payload: unknown): FastifyReply {
  const detached = (this.raw as Followed)[kDetached]!
  if (payload instanceof ReadableStream || payload instanceof Response) onAnswer(detached)
  return detached.send.call(this, payload)
}

/** `return reply` in an async handler: its promise now waits for an answer that may never have an end (HTTP/2). */
function adopt (this: FastifyReply, ...args: Parameters<FastifyReply['then']>): ReturnType<FastifyReply['then']> {
  const detached = (this.raw as Followed)[kDetached]!
  detached.codeRuns = false
  check(detached)
  return detached.then.apply(this, args)
}

function whatIsLeft (reply: FastifyReply, value: unknown): Settled {
  return value === undefined || reply.sent ? 'nothing' : 'something'
}

/** A promise of the language itself. A subclass may run its work when `then` is called, as postgres.js and p-lazy do. */
function isNativePromise (value: unknown): value is Promise<unknown> {
  return types.isPromise(value) && Object.getPrototypeOf(value) === Promise.prototype && !Object.hasOwn(value, 'then')
}

function isThenable (value: unknown): value is PromiseLike<unknown> {
  return value !== null && typeof (value as Partial<PromiseLike<unknown>>).then === 'function'
}

/** An object for Fastify that calls the thenable's `then` as often as Fastify calls its own: once. */
function passThen (thenable: PromiseLike<unknown>, onSettled: (still: Settled) => void): PromiseLike<unknown> {
  const then = (onFulfilled?: ((value: unknown) => unknown) | null, onRejected?: ((reason: unknown) => unknown) | null): PromiseLike<unknown> =>
    thenable.then(
      value => {
        const result = onFulfilled?.(value)
        onSettled(value === undefined ? 'nothing' : 'something')
        return result
      },
      reason => {
        const result = onRejected?.(reason)
        onSettled('something')
        return result
      }
    )
  return { then } as PromiseLike<unknown>
}
