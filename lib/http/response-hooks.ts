/**
 * The onResponse hooks of the app: work that runs after the answer, as an access record. The shutdown waits for these
 * hooks as for tasks, so that no resource closes while a hook uses it. An error of a hook stays with Fastify, which
 * logs it.
 *
 * A hook is replaced when it is added. An app without onResponse hooks pays nothing.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import type { Tasks } from '../lifecycle/tasks'
import { replaceHooks } from '../util/replaced-methods'

type Done = (error?: Error) => void
type OnResponse = (this: FastifyInstance, request: FastifyRequest, reply: FastifyReply, done: Done) => unknown
type OnRoute = (this: FastifyInstance, route: RouteOptions) => void

/** The onResponse hooks of one app. */
export interface ResponseHooks {
  /** Replaces a hook that `addHook(name, hook)` adds. A value that is not such a hook is returned as it is. */
  wrapHook(name: string, hook: unknown, plugin: string): unknown
  /** Replaces the onResponse hooks of a route. */
  wrapRoute(route: RouteOptions): void
}

/** Creates the onResponse hooks of an app, with those that the app has already added. */
export function createResponseHooks (app: FastifyInstance, tasks: Pick<Tasks, 'counter'>): ResponseHooks {
  const wrapped = new WeakSet<object>()
  replaceHooks(app, 'onResponse', hook => wrap(hook, 'app'))

  return {
    wrapHook (name, hook, plugin) {
      if (name === 'onResponse') return wrap(hook, plugin)
      if (name !== 'onRoute' || typeof hook !== 'function') return hook
      // The hook of another plugin may add onResponse hooks to the route.
      return function (this: FastifyInstance, route: RouteOptions) {
        (hook as OnRoute).call(this, route)
        wrapRoute(route)
      }
    },
    wrapRoute
  }

  function wrapRoute (route: RouteOptions): void {
    const hooks: unknown = route.onResponse
    if (hooks === undefined) return
    const owner = `${String(route.method)} ${route.url}`
    route.onResponse = (Array.isArray(hooks)
      ? hooks.map(hook => wrap(hook, owner))
      : wrap(hooks, owner)) as NonNullable<RouteOptions['onResponse']>
  }

  function wrap (hook: unknown, owner: string): unknown {
    // Fastify throws for a value that is not a function, and for an async function with three parameters.
    if (typeof hook !== 'function' || wrapped.has(hook)) return hook
    if (hook.constructor.name === 'AsyncFunction' && hook.length === 3) return hook
    const counter = tasks.counter(`onResponse hook of ${owner}`)
    const takesDone = hook.length > 2
    const onResponse: OnResponse = function (request, reply, done) {
      let over = false
      counter.begin()
      try {
        const result = (hook as OnResponse).call(this, request, reply, takesDone ? onDone : done)
        if (!isThenable(result)) {
          if (!takesDone) end()
          return result
        }
        // One promise for Fastify and for us, because a query builder runs its query at each call of `then`.
        const settled = new Promise(resolve => { resolve(result) })
        settled.then(end, end)
        return settled
      } catch (error) {
        end()
        throw error
      }

      function onDone (error?: Error): void {
        done(error) // The next hook begins in this call, so that the count does not fall to zero in between.
        end()
      }

      function end (): void {
        if (over) return
        over = true
        counter.end()
      }
    }
    wrapped.add(onResponse)
    return onResponse
  }
}

function isThenable (value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === 'function'
}
