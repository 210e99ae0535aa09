/**
 * Rejected requests whose 503 is not sent, because code of the app hangs: `errorResponseBuilder`, the error handler,
 * or a hook that runs before an answer. They get the plain 503 after a bounded time.
 *
 * One timer serves all of them, because ten thousand requests may be rejected at the same time.
 */
import type { Settings } from '../options'
import { headersSent } from '../util/node-internals'
import { every } from '../util/time'
import type { Entry } from './in-flight-entry'

/** Longest time that the app has for the 503 of a rejected request, in milliseconds. */
const longestTimeout = 1_000

/** Watches rejected requests. */
export interface RejectedRequests {
  /** Call it when a request has been rejected. */
  watch(): void
  /** Answers each request that waits for its 503 now. @returns whether there was one */
  answerAll(): boolean
}

/**
 * Returns the time that the app has for the 503 of a rejected request, in milliseconds. It is shorter than the drain,
 * because an HTTP/2 session closes at the end of the drain. It is at most a quarter of the total, because half of the
 * total may be reserved for the resources.
 */
export function answerTimeoutOf ({ requests, streams, total }: Settings['timeouts']): number {
  return Math.min(longestTimeout, Math.max(requests, streams) / 2, total / 4)
}

/**
 * Creates a watch. It has a timer only while a request waits for its 503.
 *
 * @param timeout time that the app has for the 503, in milliseconds
 * @param rejected returns the rejected requests in flight
 * @param answer writes the plain 503
 */
export function createRejectedRequests (
  timeout: number, rejected: () => Iterable<Entry>, answer: (entry: Entry) => void
): RejectedRequests {
  /** The requests that were waiting at the last check. */
  let earlier = new Set<Entry>()
  let stopChecking: (() => void) | null = null

  return {
    watch () {
      stopChecking ??= every(timeout / 2, check)
    },
    answerAll () {
      const waiting = [...rejected()].filter(isWaiting)
      waiting.forEach(answer)
      return waiting.length > 0
    }
  }

  /** Answers the requests that have waited since the last check. A request waits for one to two intervals. */
  function check (): void {
    for (const entry of earlier) if (isWaiting(entry)) answer(entry)
    earlier = new Set([...rejected()].filter(isWaiting))
    if (earlier.size > 0) return
    stopChecking?.()
    stopChecking = null
  }
}

function isWaiting ({ state, res }: Entry): boolean {
  return state === 'rejected' && !headersSent(res) && !res.writableEnded
}
