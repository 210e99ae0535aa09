/**
 * The hooks that run after the answer, or when its client has left: `onResponse`, `onRequestAbort` and `onTimeout`. For
 * example, an app writes its access records in such a hook. The shutdown waits for them as for tasks, so that no
 * resource closes while a hook uses it. Fastify handles the error of a hook.
 *
 * A hook is replaced when it is added. An app without these hooks has no cost.
 */
import type { FastifyInstance, RouteOptions } from 'fastify'
import type { Tasks } from '../lifecycle/tasks'
import { isAsyncFunction, isThenable } from '../util/asynchronous'
import { replaceHooks } from '../util/replaced-methods'
import { sameShape } from './observed-code'

/** The names of these hooks, with the number of parameters of a hook that takes a callback. */
const parameters = { onResponse: 3, onTimeout: 3, onRequestAbort: 2 } as const
type Name = keyof typeof parameters
const names = Object.keys(parameters) as Name[]

type Hook = (this: FastifyInstance, ...args: unknown[]) => unknown
type OnRoute = (this: FastifyInstance, route: RouteOptions) => void

/** The late hooks of one app. */
export interface LateHooks {
  /** Replaces a hook that `addHook(name, hook)` adds. A value that is not such a hook is returned unchanged. */
  wrapHook(name: string, hook: unknown, plugin: string): unknown
  /** Replaces the late hooks of a route. */
  wrapRoute(route: RouteOptions): void
}

/** Creates the late hooks of an app, with those that the app has already added. */
export function createLateHooks (app: FastifyInstance, tasks: Pick<Tasks, 'counter'>): LateHooks {
  const wrapped = new WeakSet<object>()
  replaceHooks(app, names, (name, hook) => wrap(name as Name, hook, 'app'))

  return {
    wrapHook (name, hook, plugin) {
      if (Object.hasOwn(parameters, name)) return wrapChecked(name as Name, hook, plugin)
      if (name !== 'onRoute' || typeof hook !== 'function') return hook
      // The hook of another plugin may add late hooks to the route.
      return function (this: FastifyInstance, route: RouteOptions) {
        (hook as OnRoute).call(this, route)
        wrapRoute(route)
      }
    },
    wrapRoute
  }

  function wrapRoute (route: RouteOptions): void {
    const hooks = route as unknown as Record<Name, unknown>
    const owner = `${String(route.method)} ${route.url}`
    for (const name of names) {
      const given = hooks[name]
      if (Array.isArray(given)) hooks[name] = given.map(hook => wrapChecked(name, hook, owner))
      else if (given !== undefined) hooks[name] = wrap(name, given, owner)
    }
  }

  /** Wraps a hook that Fastify checks: of `addHook`, or in a list of a route. It does not check a route's only hook. */
  function wrapChecked (name: Name, hook: unknown, owner: string): unknown {
    // Fastify throws for an async onRequestAbort hook without the request.
    if (name === 'onRequestAbort' && isAsyncFunction(hook) && (hook as Hook).length !== 1) return hook
    return wrap(name, hook, owner)
  }

  function wrap (name: Name, hook: unknown, owner: string): unknown {
    if (typeof hook !== 'function' || wrapped.has(hook)) return hook
    const takesDone = hook.length >= parameters[name]
    // Fastify throws for an async function with a callback.
    if (takesDone && isAsyncFunction(hook)) return hook
    const counter = tasks.counter(`${name} hook of ${owner}`)
    const late = sameShape<Hook>(hook as Hook, function (...args) {
      let over = false
      counter.begin()
      const done = args.at(-1) as (error?: Error) => void
      if (takesDone) args[args.length - 1] = onDone
      try {
        const result = (hook as Hook).apply(this, args)
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
    })
    wrapped.add(late)
    return late
  }
}
