/**
 * The table of requests in flight. A request is in the table from the time when Node has parsed its head until its
 * answer is flushed.
 *
 * The pair of Fastify's onRequest and onResponse hooks miscounts aborts, hijacked replies, early replies of other
 * plugins and bad URLs. So a request is added at the server's `request` event, or in our onRequest hook if there was no
 * such event (inject, an unknown server). It is removed when the response emits `close`. At `end()`, the answer to a
 * slow client is not flushed, and would be truncated.
 *
 * This code runs for every request: see `fast-path.ts`.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { InFlight, Track } from '../../types/index'
import { createConditions } from '../util/conditions'
import { replaceFailure } from '../util/replaced-methods'
import { turn } from '../util/time'
import type { Categories } from './categories'
import type { ConnectionClose } from './connection-close'
import type { Connection, Connections } from './connections'
import { createDetachedHandlers } from './detached-handlers'
import { clientLeft, createEntryOutside, describeEntry, entryOf, entryOfRequest, signalOfEntry, type Entry, type EntryResult } from './in-flight-entry'
import { createEntries } from './in-flight-entries'
import { endedBy, endResponse, isDisconnected, isFlushed, isStream, sessionOf } from './response'

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
  /** Marks the answer of a request as our 503. */
  reject(res: ServerResponse): void
  /**
   * From now on, every HTTP/1 answer has `Connection: close`, and its connection ends after it. Answers whose requests
   * no listener of ours got come into the table.
   */
  announceClose(): void
  /** Gives an entry to each request, because its connection may no longer show it. */
  closeFastPath(): void
  /** Handles the close of a connection, before the listeners of its answers. */
  onConnectionClose(connection: Connection): void
  /**
   * Resolves when only our 503s and requests that were cut are in flight. It does not wait for the 503s, because new
   * ones may always follow.
   */
  untilAnswered(): Promise<void>
  /** Resolves when nothing is in flight. */
  untilEmpty(): Promise<void>
  /** Returns the sockets of all requests in flight. */
  busySockets(): Set<Socket | null>
  /** Returns the HTTP/2 sessions of all requests in flight. */
  busySessions(): Set<unknown>
  /**
   * Ends requests now. Their signals abort first. A request whose headers are not sent gets the 503; otherwise its
   * connection ends, or its HTTP/2 stream.
   *
   * @param which chooses the requests. `hasBegun`: whether the headers of the answer are sent
   * @returns the requests that were cut
   */
  cut(which: (entry: InFlight, hasBegun: boolean) => boolean): Promise<readonly InFlight[]>
  /** Returns all requests in flight. */
  list(): InFlight[]
  /** Returns Fastify's replies whose clients wait for the end of the answer, and that have no category. */
  replies(): FastifyReply[]
  /** Returns the signal of a request: it aborts if the client leaves, or if the request is cut. */
  signalOf(request: FastifyRequest): AbortSignal
}

/** Options of the table. */
export interface InFlightOptions {
  readonly track: Track
  readonly categories: Categories
  readonly connections: Connections
  readonly connectionClose: ConnectionClose
  /** Writes the 503. */
  readonly reject: (res: ServerResponse) => void
  /** Creates the reason of a signal that aborts because its request is cut. */
  readonly cutReason: () => Error
  /** Longest time of a handler after its client has left, in milliseconds. */
  readonly handlerTimeout: number
  /** Called for each request that another part of the process destroys during a shutdown. It counts as cut. */
  readonly onDestroyed: (entry: InFlight) => void
  /** Called if a request cannot be counted, instead of an uncaught exception in an event of Node. */
  readonly onProblem: (message: string, error: unknown) => void
}

/** Creates an empty table. */
export function createInFlightTable ({
  track, categories, connections, connectionClose, reject, cutReason, handlerTimeout, onDestroyed, onProblem
}: InFlightOptions): InFlightTable {
  const entries = createEntries(track, connections, onClose)
  const handlers = createDetachedHandlers(handlerTimeout)
  const conditions = createConditions()
  const count = { completed: 0, rejected: 0, aborted: 0, cut: 0 }
  /** How many entries are rejected or cut. */
  let settled = 0
  let closing = false
  const end = (entry: Entry): void => isDisconnected(entry) ? remove(entry) : endResponse(entry, reject)

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
    reject (res) {
      const entry = entryOf(res)
      if (entry?.state !== 'active') return
      entry.state = 'rejected'
      settled++
      checkConditions()
    },
    announceClose () {
      if (!closing) {
        closing = true
        entries.closeFastPath()
        for (const entry of entries.all()) connectionClose.announceClose(entry)
      }
      for (const entry of entries.addUnseen()) connectionClose.announceClose(entry)
    },
    closeFastPath: entries.closeFastPath,
    onConnectionClose: entries.onConnectionClose,
    untilAnswered: () => conditions.until(() => entries.size === settled),
    untilEmpty: () => conditions.until(() => entries.size === 0),
    busySockets: () => new Set(entries.all().map(({ socket }) => socket)),
    busySessions: () => new Set(entries.all().map(({ res }) => sessionOf(res))),
    async cut (which) {
      const chosen = entries.all().filter(entry => (entry.state === 'active' || entry.state === 'detached') &&
        which(describeEntry(entry), entry.res.headersSent))
      if (chosen.length === 0) return []
      const described = chosen.map(describeEntry)
      const flushing = new Set(chosen.filter(({ res }) => res.writableEnded))
      for (const entry of chosen) cutEntry(entry)
      // A handler may answer when its signal aborts. It has one turn of the event loop to do so, and its answer is
      // flushed.
      await turn()
      for (const entry of chosen) if (entry.state !== 'closed' && (flushing.has(entry) || isDisconnected(entry) || !entry.res.writableEnded)) end(entry)
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
    if (closing) connectionClose.announceClose(entry)
    return entry
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
    if (entry.state !== 'active' || entry.reply === null || isFlushed(entry)) remove(entry)
    else detach(entry, entry.reply)
  }

  /** Detaches a handler whose client has left. A separate function, so that `closeEntry` creates no closure. */
  function detach (entry: Entry, reply: FastifyReply): void {
    entry.state = 'detached'
    entry.abort?.abort(clientLeft())
    entry.detached = handlers.follow(entry, reply, entry.source, () => remove(entry))
  }

  /** Its client left while a hook before ours ran, and its handler is about to run. */
  function reopen (entry: Entry, reply: FastifyReply): void {
    entry.result = null
    count.aborted--
    entries.addAgain(entry)
    detach(entry, reply)
  }

  function cutEntry (entry: Entry): void {
    entry.state = 'cut'
    settled++
    if (entry.abort === null) return
    replaceFailure(entry.res, reject)
    entry.abort.abort(cutReason())
  }

  function remove (entry: Entry): void {
    const { state } = entry
    if (state === 'closed') return
    if (state === 'rejected' || state === 'cut') settled--
    entry.result = resultOf(entry, closing)
    count[entry.result]++
    if (entry.result === 'cut' && state !== 'cut') onDestroyed({ ...describeEntry(entry), waitsFor: 'app' })
    entry.state = 'closed'
    entries.remove(entry)
    if (entry.detached !== null) handlers.forget(entry.detached)
    if (closing) connectionClose.closeAfterResponse(entry)
    checkConditions()
  }

  /** Both conditions hold only if no entry is active or detached. */
  function checkConditions (): void {
    if (entries.size === settled) conditions.check()
  }
}

/**
 * Returns how a request ends that closes now. During a shutdown, an answer that the server itself has destroyed is cut:
 * another plugin may call `closeAllConnections()`.
 */
function resultOf (entry: Entry, isShuttingDown: boolean): EntryResult {
  const { state } = entry
  if (state === 'cut') return 'cut'
  if (state !== 'detached' && isFlushed(entry)) return state === 'rejected' ? 'rejected' : 'completed'
  return isShuttingDown && state !== 'rejected' && endedBy(entry) === 'server' ? 'cut' : 'aborted'
}
