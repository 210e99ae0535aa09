/**
 * The results of the app's code: handlers, hooks and error handlers. They are recorded, so that no resource closes
 * while such code still runs after its client has left: see `detached-handler.ts`.
 *
 * A hook is observed only if it returns a promise. A hook that takes a callback continues with the answer, and the end
 * of that answer is observed instead. Hooks that run after the answer are like tasks: see `late-hooks.ts`.
 */
import type { IncomingMessage } from 'node:http'
import type {
  FastifyError, FastifyInstance, FastifyReply, FastifyRequest, RouteHandlerMethod, RouteOptions
} from 'fastify'
import { kErrorHandler, kHook } from '../symbols'
import { replaceHooks, replaceMethod } from '../util/replaced-methods'
import { detachedOf, followCode, followHandler } from './detached-handler'
import { isNativePromise, observeResult } from './handler-result'

type Hook = (this: FastifyInstance, request: FastifyRequest, ...rest: unknown[]) => unknown
type ErrorHandler = (
  this: FastifyInstance, error: FastifyError, request: FastifyRequest, reply: FastifyReply
) => unknown
type Slot = typeof kHook | typeof kErrorHandler

/** The hooks that may run after a client has left. They have four parameters if they take a callback. */
const names = ['preSerialization', 'onSend', 'onError']

/**
 * Observes the hooks of an app, and the error handlers that are added from now on.
 *
 * @returns a function that stops it: hooks that are added later are not observed
 */
export function observeHooks (app: FastifyInstance): () => void {
  // If the app adds a hook before the plugin is loaded, Fastify puts it into these lists afterwards, without `addHook`.
  replaceHooks(app, names, observeHook)
  const restore = [
    replaceMethod(app, 'addHook', original => function (this: FastifyInstance, name: string, hook: unknown) {
      return (original as (name: string, hook: unknown) => FastifyInstance).call(this, name, observeHook(name, hook))
    } as typeof app.addHook),
    replaceMethod(app, 'setErrorHandler', original => function (this: FastifyInstance, handler: unknown) {
      return (original as (handler: unknown) => FastifyInstance).call(this, observeErrorHandler(handler))
    } as typeof app.setErrorHandler)
  ]
  return () => { for (const each of restore) each() }
}

/** Observes the handler, the hooks and the error handler of a route. Call it in an onRoute hook. */
export function observeRoute (route: RouteOptions): void {
  route.handler = observeHandler(route.handler)
  const hooks = route as unknown as Record<string, unknown>
  for (const name of names) {
    const given = hooks[name]
    if (Array.isArray(given)) hooks[name] = given.map(hook => observeHook(name, hook))
    else if (given !== undefined) hooks[name] = observeHook(name, given)
  }
  if (hooks.errorHandler !== undefined) hooks.errorHandler = observeErrorHandler(hooks.errorHandler)
}

function observeHandler (handler: RouteHandlerMethod): RouteHandlerMethod {
  return sameShape(handler, function (this: FastifyInstance, request: FastifyRequest, reply: FastifyReply) {
    const returned = handler.call(this, request, reply) as unknown
    // @fastify/websocket calls the handler of its routes with a WebSocket in the place of the request.
    if ((request as Partial<FastifyRequest>).raw === undefined) return returned
    const result = observeResult(request, reply, returned)
    // The client left while an earlier hook ran.
    const detached = detachedOf(request.raw)
    if (detached !== undefined) followHandler(detached)
    return result
  } as RouteHandlerMethod)
}

/** Observes a hook. A value that is not a hook, or a hook that takes a callback, is returned unchanged. */
function observeHook (name: string, given: unknown): unknown {
  if (!names.includes(name) || typeof given !== 'function' || given.length >= 4) return given
  const hook = given as Hook
  return sameShape(hook, function (this: FastifyInstance, request: FastifyRequest, reply, payload, done) {
    return record(request.raw, kHook, hook.call(this, request, reply, payload, done))
  })
}

function observeErrorHandler (given: unknown): unknown {
  if (typeof given !== 'function') return given
  const handler = given as ErrorHandler
  return sameShape(handler, function (this: FastifyInstance, error: FastifyError, request, reply) {
    return record(request.raw, kErrorHandler, handler.call(this, error, request, reply))
  } as ErrorHandler)
}

function record (req: IncomingMessage, slot: Slot, result: unknown): unknown {
  if (!isNativePromise(result)) return result
  ;(req as IncomingMessage & { [slot in Slot]?: Promise<unknown> })[slot] = result
  followCode(req, slot, result)
  return result
}

type AnyHook = (this: FastifyInstance, ...args: any[]) => unknown // any: each hook has its own parameters

/**
 * Gives a wrapper the name and the number of parameters of its function. Fastify reads both, and `printRoutes()` prints
 * the names.
 */
export function sameShape<F extends AnyHook> (original: F, wrapper: F): F {
  return Object.defineProperties(wrapper, {
    name: { value: original.name, configurable: true },
    length: { value: original.length, configurable: true }
  })
}
