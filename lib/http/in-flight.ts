/**
 * The table of requests in flight. A request is in the table from the time when Node has parsed its head until its
 * answer is flushed.
 *
 * The pair of Fastify's onRequest and onResponse hooks miscounts aborts, hijacked replies, early replies of other
 * plugins and bad URLs. So a request is added at the server's `request` event, or in our onRequest hook if there was no
 * such event (inject, an unknown server). It is removed when the response emits `close`, and not at `end()`: the answer
 * to a slow client is not flushed then, and would be truncated.
 *
 * This code runs for every request: see `fast-path.ts`.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { InFlight, Track } from '../../types/index'
import type { OnProblem } from '../lifecycle/problems'
import { createConditions } from '../util/conditions'
import { headersSent } from '../util/node-internals'
import { changeHead } from '../util/replaced-response-methods'
import { inTime } from '../util/time'
import type { Categories } from './categories'
import { isLastAnswer, type ConnectionClose } from './connection-close'
import type { Connection, Connections } from './connections'
import { createCutting } from './cutting'
import { createDetachedHandlers } from './detached-handlers'
import {
  clientLeft, createEntryOutside, describeEntry, entryOf, entryOfRequest, isDestroyed, resultOf, signalOfEntry,
  type Entry
} from './in-flight-entry'
import { createEntries } from './in-flight-entries'
import { createRejectedRequests } from './rejected-requests'
import type { Rejection } from './rejection'
import { isDisconnected, isFlushed, isStream, sessionOf } from './response'

/** The table of requests in flight, with its counts. */
export interface InFlightTable {
  /** How many requests have arrived. */
  readonly received: number
  /** How many were answered by the app. */
  readonly completed: number
  /** How many were answered by our 503. */
  readonly rejected: number
  /** How many clients left before the answer was flushed. */
  readonly aborted: number
  /** How many were cut. */
  readonly cutCount: number
  /** How many requests are in flight whose answer does not stream. */
  readonly requests: number
  /** How many answers stream now. */
  readonly streams: number
  /** Adds a request at the server's `request` event. */
  track(req: IncomingMessage, res: ServerResponse): void
  /**
   * Records Fastify's request and reply. Called in our onRequest hook.
   *
   * @returns whether the request was added by `track`, or is already over
   */
  identify(reply: FastifyReply): boolean
  /** Returns whether a request has arrived while draining. An earlier hook may delay a request that arrived before. */
  isLate(res: ServerResponse): boolean
  /** Marks the answer of a request as our 503. */
  reject(res: ServerResponse): void
  /**
   * From now on, every HTTP/1 answer has `Connection: close`, and its connection ends after it. Each 503 has a
   * Retry-After header. It also adds the answers whose requests no listener of ours has received.
   */
  announceClose(): void
  /** Gives an entry to each request, because its connection may no longer refer to it. */
  closeFastPath(): void
  /** Handles the close of a connection, before the listeners of its answers. */
  onConnectionClose(connection: Connection): void
  /**
   * Begins draining. From now on, a new request does not prolong the drain, because more of them may always follow. It
   * may still be in flight: if it is exempt, or while an earlier hook of the app delays it.
   */
  beginDraining(): void
  /**
   * Resolves when only these are in flight: requests that arrived while draining, our 503s, and requests that were cut.
   */
  untilAnswered(): Promise<void>
  /** Resolves when nothing is in flight. */
  untilEmpty(): Promise<void>
  /** Returns the sockets of all requests in flight. */
  busySockets(): Set<Socket | null>
  /** Returns the HTTP/2 sessions of all requests in flight. */
  busySessions(): Set<unknown>
  /**
   * Answers the rejected requests whose 503 has not been sent, and waits for at most `ms` milliseconds until nothing is
   * in flight.
   */
  answerRejected(ms: number): Promise<void>
  /**
   * Ends requests now. Their signals abort first. A request whose headers are not sent gets the 503; otherwise its
   * connection ends, or its HTTP/2 stream.
   *
   * @param which chooses the requests. `hasBegun`: whether the headers of the answer are sent
   * @param from `awaited`: the requests that `untilAnswered` waits for; `all`: every request in flight
   * @returns the requests that were cut
   */
  cut(which: (entry: InFlight, hasBegun: boolean) => boolean, from?: 'awaited' | 'all'): Promise<readonly InFlight[]>
  /** Returns all requests in flight. */
  list(): InFlight[]
  /** Returns Fastify's replies whose clients wait for the end of the answer, and that have no category. */
  replies(): FastifyReply[]
  /** Returns the signal of a request: it aborts if the client leaves, or if the request is cut. */
  signalOf(request: Pick<FastifyRequest, 'raw'>): AbortSignal
}

/** Options of the table. */
export interface InFlightOptions {
  readonly track: Track
  readonly categories: Categories
  readonly connections: Connections
  readonly connectionClose: ConnectionClose
  readonly rejection: Pick<Rejection, 'rejectRequest' | 'retryAfter'>
  /** Called for a request that is cut because its 503 cannot be written, or that another plugin has destroyed. */
  readonly onCut: (entry: InFlight) => void
  /** Creates the reason of a signal that aborts because its request is cut. */
  readonly cutReason: () => Error
  /** Longest time of a handler after its client has left, in milliseconds. */
  readonly handlerTimeout: number
  /** Time that the app has for the 503 of a rejected request, in milliseconds. */
  readonly answerTimeout: number
  /** Called if a request cannot be counted, instead of an uncaught exception in an event of Node. */
  readonly onProblem: OnProblem
}

/** Creates an empty table. */
export function createInFlightTable ({
  track, categories, connections, connectionClose, rejection, cutReason, handlerTimeout, answerTimeout, onCut, onProblem
}: InFlightOptions): InFlightTable {
  const entries = createEntries(track, connections, onClose)
  const handlers = createDetachedHandlers(handlerTimeout)
  const conditions = createConditions()
  const count = { completed: 0, rejected: 0, aborted: 0, cut: 0 }
  /** The number of entries that the drain does not wait for: rejected, cut, or added while draining. */
  let unawaited = 0
  const rejectedRequests = createRejectedRequests(answerTimeout, entries.all, answerRejected)
  let closing = false
  let draining = false
  const cutting = createCutting({ rejection, cutReason, onMark: stopAwaiting, remove })

  return {
    get received () { return entries.received },
    get completed () { return entries.completedOnFastPath + count.completed },
    get rejected () { return count.rejected },
    get aborted () { return count.aborted },
    get cutCount () { return count.cut },
    get requests () { return entries.all().filter(({ res }) => !isStream(res)).length },
    get streams () { return entries.all().filter(({ res }) => isStream(res)).length },
    track (req, res) {
      try {
        const connection = connections.of(req.socket)
        if (connection !== undefined) connection.isUsed = true
        if (!entries.addToFastPath(connection, res)) add(res, connection)
      } catch (error) {
        onProblem('A request could not be counted', error)
      }
    },
    identify (reply) {
      const { raw: res, request } = reply
      const known = entryOf(res)
      if (known === undefined) {
        if (entries.identify(reply)) return true
        // An earlier hook may have waited until the client had left. That request has been counted.
        if (isDisconnected({ res, socket: request.raw.socket })) return true
      }
      const entry = known ?? add(res, connections.of(request.raw.socket))
      entry.reply = reply
      if (track !== 'count') entry.category = categories.of(request)
      if (entry.result === 'aborted') reopen(entry, reply)
      return known !== undefined
    },
    isLate (res) {
      const entry = entryOf(res)
      return !entry?.isAwaited
    },
    reject (res) {
      const entry = entryOf(res)
      if (entry?.state !== 'active') return
      entry.state = 'rejected'
      stopAwaiting(entry)
      rejectedRequests.watch()
      checkConditions()
    },
    announceClose () {
      if (!closing) {
        closing = true
        entries.closeFastPath()
        entries.all().forEach(announceClose)
      }
      entries.addUnseen().forEach(announceClose)
    },
    beginDraining () {
      draining = true
    },
    closeFastPath: entries.closeFastPath,
    onConnectionClose: entries.onConnectionClose,
    untilAnswered: () => conditions.until(() => entries.size === unawaited),
    untilEmpty,
    async answerRejected (ms) {
      if (rejectedRequests.answerAll()) await inTime(ms, untilEmpty())
    },
    busySockets: () => new Set(entries.all().map(({ socket }) => socket)),
    busySessions: () => new Set(entries.all().map(({ res }) => sessionOf(res))),
    async cut (which, from = 'awaited') {
      const chosen = entries.all().filter(entry => entry.state !== 'cut' &&
        (from === 'all' || entry.isAwaited) && which(describeEntry(entry), headersSent(entry.res)))
      if (chosen.length === 0) return []
      const described = chosen.map(describeEntry)
      await cutting.cut(chosen)
      checkConditions()
      return described
    },
    list: () => entries.all().map(describeEntry),
    replies: () => entries.all()
      .filter(({ state, category }) => state === 'active' && category === null)
      .flatMap(({ reply }) => reply ?? []),
    signalOf (request) {
      const entry = entryOfRequest(request.raw) ?? entries.find(request) ?? createEntryOutside(request)
      return signalOfEntry(entry, cutReason)
    }
  }

  function add (res: ServerResponse, connection: Connection | undefined): Entry {
    const known = entryOf(res)
    if (known !== undefined) return known
    const entry = entries.add(res, connection)
    // HTTP/2: a stream that was reset right after its head is already closed and emits no event. Its handler still
    // runs.
    if (isDisconnected(entry)) process.nextTick(closeEntry, entry)
    if (closing) announceClose(entry)
    if (draining) stopAwaiting(entry)
    return entry
  }

  function stopAwaiting (entry: Entry): void {
    if (entry.isAwaited) unawaited++
    entry.isAwaited = false
  }

  function announceClose (entry: Entry): void {
    connectionClose.announceClose(entry)
    if (!headersSent(entry.res)) changeHead(entry.res, () => isLastAnswer(entry), rejection.retryAfter)
  }

  function onClose (this: ServerResponse): void {
    try {
      closeEntry(entryOf(this)!)
    } catch (error) {
      onProblem('The end of a request could not be counted', error)
    }
  }

  function closeEntry (entry: Entry): void {
    if (entry.state === 'detached' || entry.state === 'closed') return
    // The hooks and the error handler of the app also run for a rejected request.
    if (entry.state === 'cut' || isFlushed(entry)) remove(entry)
    else if (entry.reply === null) leave(entry)
    else detach(entry, entry.reply)
  }

  /** The client has left, and no hook of Fastify got the request. Nothing shows when its handler ends. */
  function leave (entry: Entry): void {
    entry.abort?.abort(clientLeft())
    remove(entry)
  }

  /** Detaches a handler whose client has left. A separate function, so that `closeEntry` creates no closure. */
  function detach (entry: Entry, reply: FastifyReply): void {
    // Recorded now, because the app may later destroy an answer whose client has left.
    if (closing && isDestroyed(entry)) entry.result = 'cut'
    entry.state = 'detached'
    entry.abort?.abort(clientLeft())
    entry.detached = handlers.follow(entry, reply, entry.source, () => remove(entry))
  }

  /** Adds a request again whose client left while an earlier hook ran, because its handler is about to run. */
  function reopen (entry: Entry, reply: FastifyReply): void {
    entry.result = null
    count.aborted--
    entries.addAgain(entry)
    if (draining) stopAwaiting(entry)
    detach(entry, reply)
  }

  /** Writes the plain 503 of a rejected request. If that fails, the request is cut. */
  function answerRejected (entry: Entry): void {
    cutting.answer(entry.res)
    if (entry.res.writableEnded) return
    cutting.mark(entry)
    onCut(describeEntry(entry))
  }

  function remove (entry: Entry): void {
    const { state } = entry
    if (state === 'closed') return
    if (!entry.isAwaited) unawaited--
    entry.isAwaited = true
    entry.result = resultOf(entry, closing)
    count[entry.result]++
    if (entry.result === 'cut' && state !== 'cut') onCut({ ...describeEntry(entry), waitsFor: 'app' })
    entry.state = 'closed'
    entries.remove(entry)
    if (entry.detached !== null) handlers.forget(entry.detached)
    if (closing) connectionClose.closeAfterResponse(entry)
    checkConditions()
  }

  function untilEmpty (): Promise<void> {
    return conditions.until(() => entries.size === 0)
  }

  /** Checks `untilAnswered` and `untilEmpty`. Neither resolves while a drain waits for an entry. */
  function checkConditions (): void {
    if (entries.size === unawaited) conditions.check()
  }
}
