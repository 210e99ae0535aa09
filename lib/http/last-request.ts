/**
 * The time of the last request. Lame-duck ends when no request has come for some time. Probes and exempt routes do not
 * count.
 */
import type { ServerResponse } from 'node:http'
import type { RouteOptions, onRequestHookHandler } from 'fastify'
import { now, sleep, turn } from '../util/time'
import type { Connections } from './connections'

/** The last request. */
export interface LastRequest {
  /** A request has arrived. It counts, unless it is forgotten. */
  note(res: ServerResponse): void
  /** The request is for an exempt route, and does not count. */
  forget(res: ServerResponse): void
  /** Returns the milliseconds since the last request, or since the last new connection without a request. */
  silence(): number
  /** Resolves to `true` when no request has come for `quiet` milliseconds, or to `false` after `max` milliseconds. */
  untilQuiet(quiet: number, max: number): Promise<boolean>
}

/** How often a new connection without a request is checked, in milliseconds. */
const connectionStep = 10

/** Index of the last request, and of the request before it. */
const last = 0
const before = 1

/** Creates the time of the last request. While the server runs, a request calls `now()` and allocates no memory. */
export function createLastRequest (connections: Pick<Connections, 'all'>): LastRequest {
  // A typed array, because V8 allocates memory for each new number in a variable.
  const times = new Float64Array(2).fill(-Infinity)
  let lastResponse: ServerResponse | null = null

  return {
    note (res) {
      times[before] = times[last]!
      times[last] = now()
      lastResponse = res
    },
    forget (res) {
      // If another request has arrived since, the time before is no longer known. The exempt request then counts.
      if (lastResponse === res) times[last] = times[before]!
    },
    silence,
    async untilQuiet (quiet, max) {
      const until = now() + max
      for (;;) {
        await readPending()
        if (silence() >= quiet) return true
        const left = until - now()
        if (left <= 0) return false
        const sinceRequest = now() - times[last]!
        await sleep(Math.min(left, sinceRequest < quiet ? quiet - sinceRequest : connectionStep))
      }
    }
  }

  function silence (): number {
    const newest = connections.all().reduce(
      (time, { since, isUsed }) => isUsed ? time : Math.max(time, since), -Infinity
    )
    return now() - Math.max(times[last]!, newest)
  }
}

/** Adds a hook to an exempt route, so that its requests do not count. Call it in an onRoute hook. */
export function forgetExempt (route: RouteOptions, lastRequest: Pick<LastRequest, 'forget'>): void {
  if (route.config?.shutdown?.exempt !== true) return
  const forget: onRequestHookHandler = (_request, reply, next) => {
    lastRequest.forget(reply.raw)
    next()
  }
  route.onRequest = [forget, ...[route.onRequest ?? []].flat()]
}

/** Lets Node read the requests that the kernel has received. A timer runs before the sockets are read. */
const readPending = turn
