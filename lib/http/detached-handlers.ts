/** The detached handlers of all requests: see `detached-handler.ts`. One timer ends the wait for all of them. */
import type { ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import { createLinkedList } from '../util/linked-list'
import { headersSent } from '../util/node-internals'
import { every, now } from '../util/time'
import { followAll, type Detached, type Source } from './detached-handler'
import { endedBy, type Exchange } from './response'
import { watchAnswer } from './unread-answer'

/** The detached handlers of all requests. */
export interface DetachedHandlers {
  /**
   * Follows a request whose client has left.
   *
   * @param source the stream that has been piped into the answer, if it is known
   * @param onDone called when the handler is over or its time is up, maybe more than once
   */
  follow(exchange: Exchange, reply: FastifyReply, source: Source | null, onDone: () => void): Detached
  /** Stops following: the request is over. */
  forget(detached: Detached): void
}

/** How often the timeout is checked, in milliseconds. */
const sweepStep = 1_000

/** Creates an empty list. @param timeout longest time of a handler after its client has left, in milliseconds */
export function createDetachedHandlers (timeout: number): DetachedHandlers {
  /** In the order in which their clients left. */
  const list = createLinkedList<Detached>()
  let stopSweeping = (): void => {}

  return {
    follow (exchange, reply, source, onDone) {
      const { res } = exchange
      const hijacked = reply.sent && !res.writableEnded
      const detached: Detached = {
        exchange,
        reply,
        since: now(),
        onDone,
        awaitsAnswer: res.listenerCount('end') > 0,
        running: new Set(),
        left: false,
        hijacked,
        answered: headersSent(res) || res.writableEnded || source !== null ||
          (hijacked && (endedBy(exchange) !== 'client' || listensToClose(res))),
        source,
        end: res.end,
        destroy: res.destroy,
        send: reply.send,
        then: reply.then,
        previous: null,
        next: null
      }
      if (list.size === 0) stopSweeping = every(Math.min(sweepStep, Math.max(1, timeout)), sweep)
      list.add(detached)
      watchAnswer(detached)
      followAll(detached)
      return detached
    },
    forget (detached) {
      list.remove(detached)
      if (list.size === 0) stopSweeping()
    }
  }

  function sweep (): void {
    const due = now() - timeout
    for (const { since, onDone } of list.toArray()) {
      if (since > due) break
      onDone()
    }
  }
}

/** Returns whether the app listens to the close of the request, or of the response, to which this plugin listens. */
function listensToClose (res: ServerResponse): boolean {
  return res.req.listenerCount('close') > 0 || res.listenerCount('close') > 1
}
