/**
 * The close of a host: `app.close()`, or `server.close()` of a plain server. It settles when the report is published.
 *
 * A resource or hook may own the host and close it itself, as NestJS does. In this case the close resolves at once.
 * Otherwise it would wait for itself.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { createDeferred } from '../util/deferred'

/** The close of one host, as the shutdown uses it. */
export interface Close {
  /** The method that the user calls, such as `app.close()`. */
  readonly name: string
  /** Closes the host. Settles when the host's own close settles. */
  original(): Promise<unknown>
  /**
   * Runs a part of the close. In this part, and in callbacks that it starts, the method that the user calls resolves at
   * once, until `settle` is called. From then on, it settles as for any other caller.
   */
  runInside<T>(part: () => T): T
  /** Settles the method that the user called: rejects with `error`, or resolves if it is `null`. */
  settle(error: unknown): void
}

/** The close, as the host uses it. */
export interface PublishedClose extends Close {
  /** Closes the host, and resolves when the report is published. */
  close(): Promise<void>
}

/**
 * The closes that the current code runs inside of. One storage for all hosts: Node 20 and 22 copy each enabled storage
 * to every asynchronous resource, and keep a storage until it is disabled.
 */
const current = new AsyncLocalStorage<readonly symbol[]>()
/** The closes that are running. The storage is disabled when there is none. */
const running = new Set<symbol>()

/** Creates the close of one host. */
export function createClose (name: string, original: () => Promise<unknown>): PublishedClose {
  const published = createDeferred<unknown>()
  const key = Symbol(name)
  let isSettled = false

  return {
    name,
    original,
    runInside (part) {
      // The method that the user calls has resolved.
      if (isSettled) return part()
      running.add(key)
      return current.run([...current.getStore() ?? [], key], part)
    },
    settle (error) {
      isSettled = true
      published.resolve(error)
      if (running.delete(key) && running.size === 0) current.disable()
    },
    async close () {
      if (current.getStore()?.includes(key) === true) return
      // Its error is in the report.
      original().catch(() => {})
      const error = await published.promise
      if (error !== null) throw error
    }
  }
}
