/**
 * Routes that were added before this plugin was loaded. This happens if `register()` is not awaited, or if another
 * plugin is registered first. Our onRoute hook did not run for such a route, so it is observed at its first request.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest, HookHandlerDoneFunction, RouteOptions } from 'fastify'
import type { OnProblem } from '../lifecycle/problems'
import { kObserved } from '../symbols'
import { hooksOf, routeContextOf, usesDefaultErrorHandler, type RouteContext } from '../util/node-internals'

type OnRequest = (request: FastifyRequest, reply: FastifyReply, next: HookHandlerDoneFunction) => void

/** The function that observes a route, and the function that is called if it throws. */
export interface Observer {
  /** Gets the same options as an onRoute hook, and may replace the handler and the hooks of the route. */
  readonly observe: (route: RouteOptions) => void
  readonly onProblem: OnProblem
}

/** The hooks of a route that an observer may replace. */
const names = ['onRequest', 'preSerialization', 'onSend', 'onError', 'onResponse', 'onTimeout', 'onRequestAbort']

/** What `printRoutes()` returns for an app without a route. For any other text, each request checks its route. */
const noRoutes = '(empty tree)'

/** Marks a route that an onRoute hook observes. Fastify copies the config. */
export function markObserved (route: RouteOptions): void {
  route.config = { ...route.config, [kObserved]: true } as NonNullable<RouteOptions['config']>
}

/** Returns the `onRequest` hook. If the app has routes already, it also observes each of them at its first request. */
export function observeEarlierRoutes (
  app: FastifyInstance, onRequest: OnRequest, { observe, onProblem }: Observer
): OnRequest {
  if (app.printRoutes() === noRoutes) return onRequest
  return function (request, reply, next) {
    const context = routeContextOf(request)
    if (context?.config !== undefined && context.config[kObserved] !== true) {
      context.config[kObserved] = true
      try {
        observeContext(context, request, observe)
      } catch (error) {
        onProblem('A route that was added before fastify-shutdown was loaded is not observed', error)
      }
    }
    onRequest(request, reply, next)
  }
}

function observeContext (context: RouteContext, request: FastifyRequest, observe: Observer['observe']): void {
  // Fastify has put the hooks of the instance first, which are observed already. The hooks of the route follow.
  const ofInstance = hooksOf(request.server)
  const lists = names.map(name => {
    const all = context[name] ?? []
    const count = ofInstance?.[name]?.length ?? all.length
    return { name, before: all.slice(0, count), own: all.slice(count) }
  })
  const { method, url, ...config } = context.config
  const route = { method, url, config, handler: context.handler } as unknown as RouteOptions & Record<string, unknown>
  for (const { name, own } of lists) route[name] = own
  const { errorHandler } = context
  if (errorHandler !== undefined && !usesDefaultErrorHandler(request)) route.errorHandler = errorHandler.func
  observe(route)
  context.handler = route.handler
  for (const { name, before } of lists) {
    const hooks = [...before, ...route[name] as unknown[]]
    context[name] = hooks.length > 0 ? hooks : null
  }
  if (route.errorHandler !== undefined) {
    // The prototype is the outer error handler. It handles the errors of this one.
    const outer: unknown = Object.getPrototypeOf(errorHandler)
    context.errorHandler = Object.assign(Object.create(outer as object), { func: route.errorHandler })
  }
}
