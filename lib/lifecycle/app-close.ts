/**
 * `app.close()`, as the app calls it. It settles when the report is published, also if Fastify's own close never
 * settles, or if onClose hooks of plugins that were registered earlier still have to run.
 *
 * A resource or hook may own the app and call `app.close()` itself, as NestJS does. In this case it resolves at once.
 * Otherwise it would wait for itself.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { FastifyInstance } from 'fastify'
import { createDeferred } from '../util/deferred'
import { replaceMethod } from '../util/replaced-methods'

/** The close of one app. */
export interface AppClose {
  /** Replaces `app.close`. Call it when the registration can no longer fail. */
  intercept(): void
  /** Closes the app. Settles when Fastify's close does. */
  original(): Promise<unknown>
  /** Runs a part of the close: `app.close()` resolves at once in it, also in callbacks that it starts. */
  runInside<T>(part: () => T): T
  /** The report is published: `app.close()` rejects with `error`, or resolves if it is `null`. */
  settle(error: unknown): void
}

/** Creates the close of one app. */
export function createAppClose (app: FastifyInstance): AppClose {
  const published = createDeferred<unknown>()
  const inside = new AsyncLocalStorage<true>()
  const original = app.close as (this: FastifyInstance, callback?: unknown) => unknown

  return {
    intercept () {
      replaceMethod(app, 'close', () => function (this: FastifyInstance, callback?: unknown) {
        if (callback === undefined) return close()
        // Fastify throws for a value that is not a function.
        if (typeof callback !== 'function') return original.call(this, callback)
        void close().then(() => null, (error: unknown) => error).then(error => call(callback as Callback, error))
        return this
      } as FastifyInstance['close'])
    },
    original: async () => await original.call(app),
    runInside: part => inside.run(true, part),
    settle: error => { published.resolve(error) }
  }

  async function close (): Promise<void> {
    if (inside.getStore() === true) return
    // Its error is in the report.
    Promise.resolve(original.call(app)).catch(() => {})
    const error = await published.promise
    if (error !== null) throw error
  }

  /** Calls a callback as avvio does: its number of parameters decides which it gets. */
  function call (callback: Callback, error: unknown): void {
    const done = (): void => {}
    callback(error, ...(callback.length > 2 ? [app, done] : [done]))
  }
}

type Callback = (...args: unknown[]) => unknown
