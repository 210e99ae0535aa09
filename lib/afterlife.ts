/**
 * Handlers that outlive their client. The count of the requests in flight must not fall when a client leaves: its handler
 * may go on, and no resource may close under it. This file is a little tricky, since nobody says when a handler is over:
 *
 * - an async handler is over when its promise settles, and what it was streaming has been closed;
 * - `await reply` settles only with the answer, which may never come: such a promise says nothing;
 * - a callback handler is over when it answers, to nobody; one that never does is forgotten in time;
 * - a hijacked answer is over with its connection: there is no other sign.
 */
import type { ServerResponse } from 'node:http'
import { every, now, turn } from './deadline'

/** The handler took the answer away from Fastify. */
export const hijacked = 'hijacked'

/** What is known of a handler: its promise, that it hijacked its answer, or nothing yet. */
export type Handler = PromiseLike<unknown> | typeof hijacked | null

export interface Afterlife {
  /** This one's client has left. `over` is called when its handler is done, and maybe more than once. */
  follow(res: ServerResponse, handler: Handler, over: () => void): void
  /** It is over for another reason. */
  forget(res: ServerResponse): void
}

/** The part of a Readable that matters for its end. */
interface Source {
  readonly closed: boolean
  once(event: 'close', listener: () => void): unknown
}

/** How often those that never answer are looked for, in milliseconds. */
const sweepStep = 1_000

/** @param longest how long a handler without a sign is believed to run on, in milliseconds */
export function createAfterlife (longest: number): Afterlife {
  /** Those that may never say that they are over, since when, and what is to be done then. In the order of their time. */
  const silent = new Map<ServerResponse, { readonly since: number, over(): void }>()
  let stopSweeping = (): void => {}

  return {
    follow (res, handler, over) {
      if (handler === hijacked) return over()
      // A stream that is piped into the answer comes off in this very turn. Not so with HTTP/2, where it has come off before.
      let piped: Source | undefined
      res.once('unpipe', (source: Source) => { piped = source })
      // Fastify's `await reply` listens for the answer's end, which nobody else has a use for.
      const awaitsAnswer = res.listenerCount('end') > 0
      if (handler === null) return queueMicrotask(() => settle(res, piped, false, over))
      handler.then(value => settle(res, isSource(value) ? value : piped, value !== undefined || !awaitsAnswer, over), over)
      // `return reply.send(…)`: with HTTP/2 that promise settles never, since the answer of a stream that is gone has no end.
      onAnswer(res, () => { void turn().then(() => { if (res.listenerCount('end') > 0) over() }) })
    },
    forget (res) {
      if (silent.delete(res) && silent.size === 0) stopSweeping()
    }
  }

  /** @param returned whether its promise has said all */
  function settle (res: ServerResponse, source: Source | undefined, returned: boolean, over: () => void): void {
    if (source !== undefined && !source.closed) {
      // It may have a cursor to give back, or a file to close.
      source.once('close', over)
      return wait(res, over)
    }
    // Whoever writes by hand looks at the connection, and that is gone.
    if (returned || res.headersSent || res.writableEnded) return over()
    onAnswer(res, over)
    wait(res, over)
  }

  function wait (res: ServerResponse, over: () => void): void {
    if (silent.size === 0) stopSweeping = every(Math.min(sweepStep, Math.max(1, longest)), sweep)
    silent.set(res, { since: now(), over })
  }

  function sweep (): void {
    const time = now()
    for (const { since, over } of [...silent.values()]) {
      if (time - since < longest) break
      over()
    }
  }
}

/** Nobody gets it any more; but whoever calls `end()` has said all that they had to say. */
function onAnswer (res: ServerResponse, answered: () => void): void {
  const end = res.end
  res.end = function (this: ServerResponse, ...args: unknown[]) {
    answered()
    return (end as (...args: unknown[]) => ServerResponse).apply(this, args)
  } as typeof res.end
}

function isSource (value: unknown): value is Source {
  const source = value as Partial<Source> | null | undefined
  return typeof source?.closed === 'boolean' && typeof source.once === 'function'
}
