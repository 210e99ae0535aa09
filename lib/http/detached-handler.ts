/**
 * A detached handler: a handler that still runs after its client has left. It may still use resources, so its request
 * stays in flight until two things hold: its code is over, and its answer has been sent or is not expected. No client
 * receives that answer.
 *
 * The code of an async handler, hook or error handler is over when its promise settles. The code of a callback handler,
 * or of a hook before the handler, counts as over when its answer is sent. The answer is sent when Fastify ends the
 * response, or pipes a stream into it. If neither happens, the timeout ends the wait.
 *
 * A handler that has hijacked the reply sends its answer itself. If it has written something, it streams, and its next
 * write fails. If it listens to the close of the request or response, it can detect that the client has left. In both
 * cases it is over. Otherwise its code is over when it ends or destroys the response.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import { kDetached, kErrorHandler, kHook } from '../symbols'
import type { Linked } from '../util/linked-list'
import { turn } from '../util/time'
import { handlerResultOf, whenSettled, type HandlerResult, type Remainder } from './handler-result'
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
  /** The results of async code that has not settled: of the handler, an error handler or a hook. */
  readonly running: Set<Exclude<HandlerResult, 'callback'>>
  /** Whether the client had left before the current code settled. Fastify then sends no answer for `undefined`. */
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

/** The part of a Readable that shows its end. */
export interface Source {
  readonly destroyed: boolean
  readonly closed: boolean
  once(event: 'close', listener: () => void): unknown
}

/** A request with its detached handler, and with the promises of its hooks: see `observed-code.ts`. */
type Followed = IncomingMessage & {
  [kDetached]?: Detached
  [kErrorHandler]?: Promise<unknown>
  [kHook]?: Promise<unknown>
}

const hookSlots = [kErrorHandler, kHook] as const

/** Returns the detached handler of a request, if its client has left. */
export function detachedOf (req: IncomingMessage): Detached | undefined {
  return (req as Followed)[kDetached]
}

/** Follows the code of a request whose client has just left: its handler, and the hooks that have not settled. */
export function followAll (detached: Detached): void {
  const { req } = detached.exchange.res
  ;(req as Followed)[kDetached] = detached
  followHandler(detached)
  for (const slot of hookSlots) {
    const result = (req as Followed)[slot]
    if (result !== undefined) waitForCode(detached, slot, result)
  }
  // The listeners of a promise that has settled before run before this.
  queueMicrotask(() => { detached.left = true })
}

/** Follows an error handler or a hook that has returned a promise, if the client has left. */
export function followCode (req: IncomingMessage, slot: typeof hookSlots[number], result: Promise<unknown>): void {
  const detached = detachedOf(req)
  if (detached !== undefined) waitForCode(detached, slot, result)
}

/** Follows a handler that runs, or that begins now because an async hook has just finished. */
export function followHandler (detached: Detached): void {
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
  // A handler that hijacked and returned before its client left continues in callbacks.
  const continues = detached.hijacked && !detached.left
  if (remainder === 'nothing' && !detached.awaitsAnswer && !continues) detached.answered = true
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

/** Records that the answer has been sent, or that none is expected. */
export function onAnswer (detached: Detached): void {
  detached.answered = true
  check(detached)
}

/** Ends the wait a turn later if the handler is over. */
export function check ({ running, answered, source, onDone }: Detached): void {
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
