/**
 * The result of a route's handler: the promise that it returned, or the word `callback`.
 *
 * Only a native Promise is observed by a call of its `then`. A query builder (knex, drizzle, mongoose) runs its query
 * at each call of `then`. So any other thenable is observed through the one call that Fastify makes.
 */
import type { IncomingMessage } from 'node:http'
import { types } from 'node:util'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { kHandler } from '../symbols'
import { isThenable } from '../util/asynchronous'

/**
 * Whether an answer still follows after a handler has settled. Fastify sends none if a promise resolves to `undefined`.
 */
export type Remainder = 'nothing' | 'answer'

/** A thenable that is not a native Promise, observed through Fastify's own call of `then`. */
interface ObservedThenable {
  remainder: Remainder | null
  onSettled: ((remainder: Remainder) => void) | null
}

/** The result of a handler that has been called. */
export type HandlerResult = Promise<unknown> | ObservedThenable | 'callback'

type WithHandler = IncomingMessage & { [kHandler]?: HandlerResult }

/** Returns the result of the handler of a request; `undefined` while its hooks run. */
export function handlerResultOf (req: IncomingMessage): HandlerResult | undefined {
  return (req as WithHandler)[kHandler]
}

/**
 * Records what a handler returned.
 *
 * @returns the value for Fastify: `result` itself, or an object that forwards `then` if `result` is a thenable and not
 *   a native Promise
 */
export function observeResult (request: FastifyRequest, reply: FastifyReply, result: unknown): unknown {
  if (result === undefined || result === reply) {
    if (!reply.raw.writableEnded) (request.raw as WithHandler)[kHandler] = 'callback'
    return result
  }
  if (isNativePromise(result)) {
    (request.raw as WithHandler)[kHandler] = result
    return result
  }
  return isThenable(result) ? observeThenable(request, result) : result
}

/** Calls `onSettled` when an async handler has settled, or at once if it has. */
export function whenSettled (
  result: Exclude<HandlerResult, 'callback'>, reply: FastifyReply, onSettled: (remainder: Remainder) => void
): void {
  const onFulfilled = (value: unknown): void => onSettled(remainderOf(reply, value))
  if (isNativePromise(result)) result.then(onFulfilled, () => onFulfilled(reply))
  else if (result.remainder !== null) onSettled(result.remainder)
  else result.onSettled = onSettled
}

function remainderOf (reply: FastifyReply, value: unknown): Remainder {
  return value === undefined || reply.sent ? 'nothing' : 'answer'
}

/**
 * Returns whether a value is a native Promise. A subclass may begin its work when `then` is called (postgres.js,
 * p-lazy).
 */
export function isNativePromise (value: unknown): value is Promise<unknown> {
  return types.isPromise(value) && Object.getPrototypeOf(value) === Promise.prototype && !Object.hasOwn(value, 'then')
}

function observeThenable (request: FastifyRequest, thenable: PromiseLike<unknown>): PromiseLike<unknown> {
  const observed: ObservedThenable = { remainder: null, onSettled: null }
  ;(request.raw as WithHandler)[kHandler] = observed
  return forwardThen(thenable, remainder => {
    observed.remainder = remainder
    observed.onSettled?.(remainder)
  })
}

/**
 * Creates an object for Fastify that calls the thenable's `then` as often as its own is called: once. Another plugin
 * may have wrapped the handler, so its methods behave like those of a Promise: without a listener, a value or a reason
 * is passed on.
 */
function forwardThen (thenable: PromiseLike<unknown>, onSettled: (remainder: Remainder) => void): PromiseLike<unknown> {
  const then = (onFulfilled?: Listener, onRejected?: Listener): PromiseLike<unknown> => thenable.then(
    value => {
      try {
        return typeof onFulfilled === 'function' ? onFulfilled(value) : value
      } finally {
        onSettled(value === undefined ? 'nothing' : 'answer')
      }
    },
    reason => {
      try {
        if (typeof onRejected === 'function') return onRejected(reason)
        throw reason
      } finally {
        onSettled('answer')
      }
    }
  )
  const forwarded: Pick<Promise<unknown>, 'catch' | 'finally'> & PromiseLike<unknown> = {
    then: then as PromiseLike<unknown>['then'],
    catch: onRejected => new Promise((resolve, reject) => { then(resolve, reject) }).catch(onRejected),
    finally: onFinally => new Promise((resolve, reject) => { then(resolve, reject) }).finally(onFinally)
  }
  return forwarded
}

type Listener = ((value: any) => unknown) | null // any: a value or a reason
