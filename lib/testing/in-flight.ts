/**
 * `inFlight`: a request whose handler runs. Fastify publishes the call of each handler on a diagnostics channel, and
 * the async context of the request shows which one it is.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { InjectOptions, LightMyRequestResponse } from 'fastify'
import { ShutdownTestError } from '../errors'
import { createDeferred } from '../util/deferred'
import { within } from '../util/time'
import type { AnyApp } from './any-app'

/** A request whose handler runs. */
export interface RequestInFlight {
  /** The response, as `app.inject()` resolves to it. It is a member, so that `await` does not wait for it. */
  readonly response: Promise<LightMyRequestResponse>
}

/**
 * Longest time until the handler runs, in milliseconds. It is shorter than the timeout of a test in jest and vitest.
 */
const longestWait = 4_000

/** Longest part of an answer in an error, in characters. */
const longestAnswer = 200

/**
 * Published when a handler has returned, which may be a promise. A handler or preHandler hook that threw has set
 * `error` (https://fastify.dev/docs/latest/Reference/Hooks/#diagnostics-channel-hooks).
 */
const handlerReturned = 'tracing:fastify.request.handler:end'

/** The request to which the current async context belongs. */
const current = new AsyncLocalStorage<object>()

/**
 * Sends a request as `app.inject()` does, and resolves when its handler has been called and has returned its promise.
 * The hooks before the handler are over then.
 *
 * It never hangs. It rejects if the request is answered without its handler: a hook answered it, no route matches (also
 * with an own not-found handler), the plugin rejected it, or the handler threw without a promise. The error names the
 * status. It also rejects if the handler does not run within 4 000 ms, or if `app.inject()` or the boot rejects.
 *
 * @param request a URL, or the options of `app.inject()`
 * @throws FST_ERR_SHUTDOWN_TEST if the handler does not run
 */
export async function inFlight (app: AnyApp, request: InjectOptions | string): Promise<RequestInFlight> {
  // The boot has its own time.
  await app.ready()
  const token = {}
  const handler = createDeferred<null>()
  const onReturned = (message: unknown): void => {
    if (current.getStore() === token && !('error' in (message as object))) handler.resolve(null)
  }
  subscribe(handlerReturned, onReturned)
  try {
    const response = current.run(token, async () => await app.inject(request))
    const first = await within(longestWait, () => Promise.race([handler.promise, response]))
    // The test may not await the response, and the shutdown may cut the request.
    response.catch(() => {})
    if (first.status === 'rejected') throw first.reason
    if (first.status === 'fulfilled' && first.value === null) return { response }
    const reason = first.status === 'late' ? late : answered(first.value!)
    throw new ShutdownTestError(`${nameOf(request)} is not in flight: ${reason}`)
  } finally {
    unsubscribe(handlerReturned, onReturned)
  }
}

const late = `its handler has not run in ${longestWait} ms. A hook before it may not have called done() or settled`

function answered ({ statusCode, payload }: LightMyRequestResponse): string {
  const answer = payload.slice(0, longestAnswer)
  return `it was answered with ${statusCode} without its handler, or its handler threw: ${answer}`
}

function nameOf (request: InjectOptions | string): string {
  const { method = 'GET', url, path } = typeof request === 'string' ? { url: request } as InjectOptions : request
  const target = url ?? path ?? '/'
  return `${method.toUpperCase()} ${typeof target === 'string' ? target : target.pathname}`
}
