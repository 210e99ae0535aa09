/**
 * `server.close()` of a plain server. It begins a shutdown, and its callback is called when the report is published.
 * The event `close` of the server comes earlier: when its last connection has closed.
 */
import type { Server } from 'node:http'
import type { CloseHooks, CloseHooksOptions } from '../resources/close-hooks'
import { createDeferred, once } from '../util/deferred'
import { stopConnectionChecks } from '../util/node-internals'
import { replaceMethod } from '../util/replaced-methods'
import { createClose, type Close } from './close'

/** The close of one server. */
export interface ServerClose extends Close {
  /** Takes the steps of the close. A plain server has no hooks of its own. */
  hooks(options: CloseHooksOptions): CloseHooks
  /** Replaces `server.close`. Until then, nothing changes on the server. */
  intercept(): void
}

/** Creates the close of one server. Call it before the server listens. */
export function createServerClose (server: Server): ServerClose {
  const steps = createDeferred<Pick<CloseHooksOptions, 'drained' | 'finish'>>()
  const closed = createDeferred<void>()
  let hasListened = false
  const { close, ...parts } = createClose('server.close()', once(run))

  return {
    ...parts,
    hooks (options) {
      steps.resolve(options)
      return noHooks
    },
    intercept () {
      server.once('listening', () => { hasListened = true })
      server.once('close', () => { closed.resolve() })
      replaceMethod(server, 'close', () => function (this: Server, callback?: unknown) {
        const over = close().then(() => undefined, (error: unknown) => error)
        // Like Node, it passes no argument if everything has closed.
        if (typeof callback === 'function') void over.then(error => error === undefined ? callback() : callback(error))
        return this
      } as Server['close'])
    }
  }

  async function run (): Promise<void> {
    const { drained, finish } = await steps.promise
    await drained()
    try {
      await finish()
    } finally {
      if (hasListened) await closed.promise
      stopConnectionChecks(server)
    }
  }
}

/** The hooks of a plain server: none. Its resources close when all of them are allowed to. */
const noHooks: CloseHooks = {
  instances: new Set(),
  registered: () => ({ has: () => false, known: () => [] }),
  pending: () => [],
  restore () {},
  addStep () {}
}
