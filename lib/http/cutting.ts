/** Cuts requests: the signal of a request aborts first, then the request gets the 503, or its connection ends. */
import type { ServerResponse } from 'node:http'
import { ignoreWrites, replaceFailure } from '../util/replaced-response-methods'
import { turn } from '../util/time'
import type { Entry } from './in-flight-entry'
import type { Rejection } from './rejection'
import { endResponse, isDisconnected } from './response'

/** Cuts requests. */
export interface Cutting {
  /** Cuts requests. Resolves when each of them has ended, or is being flushed. */
  cut(entries: readonly Entry[]): Promise<void>
  /** Marks a request as cut, and aborts its signal. */
  mark(entry: Entry): void
  /** Writes the plain 503. What the app writes later is ignored. */
  answer(res: ServerResponse): void
}

/** Options of `createCutting`. */
export interface CuttingOptions {
  readonly rejection: Pick<Rejection, 'rejectRequest'>
  /** Creates the reason of a signal that aborts because its request is cut. */
  readonly cutReason: () => Error
  /** Called for each request that is marked as cut. */
  readonly onMark: (entry: Entry) => void
  /** Removes a request from the table, because its client has left. */
  readonly remove: (entry: Entry) => void
}

/** Creates a `Cutting`. */
export function createCutting ({ rejection, cutReason, onMark, remove }: CuttingOptions): Cutting {
  return {
    async cut (entries) {
      const flushing = new Set(entries.filter(({ res }) => res.writableEnded))
      for (const entry of entries) mark(entry)
      // A handler may answer when its signal aborts. It has one turn of the event loop to do so, and its answer is
      // flushed.
      await turn()
      for (const entry of entries) {
        const hasJustAnswered = entry.res.writableEnded && !flushing.has(entry) && !isDisconnected(entry)
        if (entry.state !== 'closed' && !hasJustAnswered) end(entry)
      }
    },
    mark,
    answer
  }

  function mark (entry: Entry): void {
    entry.state = 'cut'
    onMark(entry)
    if (entry.abort === null) return
    replaceFailure(entry.res, answer)
    entry.abort.abort(cutReason())
  }

  function answer (res: ServerResponse): void {
    rejection.rejectRequest(res)
    if (res.writableEnded) ignoreWrites(res)
  }

  function end (entry: Entry): void {
    if (isDisconnected(entry)) remove(entry)
    else endResponse(entry, answer)
  }
}
