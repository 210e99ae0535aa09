/**
 * `app.close()`, as the app calls it. It settles when the report is published, also if Fastify's own close never
 * settles, or if onClose hooks of plugins that were registered earlier still have to run.
 */
import type { FastifyInstance } from 'fastify'
import { replaceMethod } from '../util/replaced-methods'
import { createClose, type Close } from './close'

/** The close of one app. */
export interface AppClose extends Close {
  /** Replaces `app.close`. Call it when the registration can no longer fail. */
  intercept(): void
}

/** Creates the close of one app. */
export function createAppClose (app: FastifyInstance): AppClose {
  const original = app.close as (this: FastifyInstance, callback?: unknown) => unknown
  const { close, ...parts } = createClose('app.close()', async () => await original.call(app))

  return {
    ...parts,
    intercept () {
      replaceMethod(app, 'close', () => function (this: FastifyInstance, callback?: unknown) {
        if (callback === undefined) return close()
        // Fastify throws for a value that is not a function.
        if (typeof callback !== 'function') return original.call(this, callback)
        void close().then(() => null, (error: unknown) => error).then(error => call(callback as Callback, error))
        return this
      } as FastifyInstance['close'])
    }
  }

  /** Calls a callback as avvio does: its number of parameters decides which it gets. */
  function call (callback: Callback, error: unknown): void {
    const done = (): void => {}
    callback(error, ...(callback.length > 2 ? [app, done] : [done]))
  }
}

type Callback = (...args: unknown[]) => unknown
