/** The list of requests in flight. A request on the fast path gets its entry when the list is read. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Track } from '../../types/index'
import { createLinkedList } from '../util/linked-list'
import { overrideMethod } from '../util/replaced-methods'
import { now } from '../util/time'
import type { Connection, Connections } from './connections'
import type { Source } from './detached-handler'
import { createFastPath } from './fast-path'
import { createEntry, entryOf, type Entry } from './in-flight-entry'
import { closeQueuedResponse, onStreamClose } from './response'

/** The entries of all requests in flight. */
export interface Entries {
  /** How many requests have arrived. */
  readonly received: number
  /** How many requests were on the fast path until they were over. */
  readonly completedOnFastPath: number
  /** How many entries there are. It does not include the fast path. */
  readonly size: number
  /** Puts a new request on the fast path. @returns whether that is possible; otherwise the request needs `add` */
  addToFastPath(connection: Connection | undefined, res: ServerResponse): connection is Connection
  /** Records the reply of a request on the fast path. @returns whether the request is on the fast path */
  identify(reply: FastifyReply): boolean
  /** Adds the entry of a request that has none. */
  add(res: ServerResponse, connection: Connection | undefined): Entry
  /** Adds an entry again that was removed. It is the same request. */
  addAgain(entry: Entry): void
  /** Removes an entry. */
  remove(entry: Entry): void
  /** Returns all requests in flight, in the order in which they got their entries. */
  all(): Entry[]
  /**
   * Handles the close of a connection, before the listeners of its answers: closes the answers that wait behind another
   * one.
   */
  onConnectionClose(connection: Connection): void
  /** Returns the entry of a request, which may still be on the fast path. */
  find(request: Pick<FastifyRequest, 'raw'>): Entry | undefined
  /** Gives an entry to each request on the fast path, and to every request from now on. */
  closeFastPath(): void
  /** Adds the requests in flight that no listener of ours got. @returns their entries */
  addUnseen(): Entry[]
}

/**
 * Creates an empty list.
 *
 * @param track requests use the fast path if it is `count`
 * @param onClose `close` listener of each response. It runs before Fastify's listener, which unpipes the stream of the
 *   answer
 */
export function createEntries (
  track: Track, connections: Connections, onClose: (this: ServerResponse) => void
): Entries {
  const list = createLinkedList<Entry>()
  const fastPath = createFastPath(connections, res => entryOf(res) !== undefined)
  let added = 0
  if (track !== 'count') fastPath.close()

  return {
    get received () { return fastPath.count + added },
    get completedOnFastPath () {
      enterAll()
      return fastPath.count
    },
    get size () { return list.size },
    addToFastPath: fastPath.add,
    identify: fastPath.identify,
    add (res, connection) {
      const isQueued = connection !== undefined && res.socket === null && res.req.httpVersionMajor === 1
      // Keeps the order of the connection: this answer waits for the current one, which needs its entry first.
      if (isQueued) enterFrom(connection)
      const entry = enter(res, connection)
      if (isQueued) (connection.queued ??= new Set()).add(entry)
      return entry
    },
    addAgain: list.add,
    remove (entry) {
      list.remove(entry)
      const { connection, res } = entry
      if (connection === null) return
      connection.queued?.delete(entry)
      if (res.req.httpVersionMajor > 1) connection.answeredAt = now()
    },
    all () {
      enterAll()
      return list.toArray()
    },
    onConnectionClose (connection) {
      enterFrom(connection)
      const res = fastPath.currentOf(connection)
      const current = res === undefined ? undefined : entryOf(res)
      if (current !== undefined) current.destroyedByServer = current.res.destroyed
      // Node 24 closes the queued answers itself, in the same turn of the event loop.
      if (connection.queued !== null) process.nextTick(closeQueued, connection.queued)
    },
    find ({ raw }) {
      const known = fastPath.replyOf(raw)?.raw
      // There is no reply while hooks before ours run.
      const connection = connections.of(known === undefined ? raw.socket : known.socket)
      if (connection === undefined) return undefined
      const res = known ?? fastPath.currentOf(connection)
      if (res?.req !== raw) return undefined
      enterFrom(connection)
      return entryOf(res)
    },
    closeFastPath () {
      for (const { res, connection } of fastPath.close()) enter(res, connection)
    },
    addUnseen: () => fastPath.findUnseen().map(({ res, connection }) => enter(res, connection))
  }

  function enterAll (): void {
    for (const { res, connection } of fastPath.takeAll()) enter(res, connection)
  }

  function enterFrom (connection: Connection): void {
    const res = fastPath.takeFrom(connection)
    if (res !== undefined) enter(res, connection)
  }

  function enter (res: ServerResponse, connection: Connection | undefined): Entry {
    const entry = createEntry(res.req, res, connection ?? null, track === 'detail' ? now() : null)
    const reply = fastPath.replyOf(res.req)
    if (reply !== undefined) entry.reply = reply
    list.add(entry)
    added++
    res.prependListener('close', onClose)
    if (res.req.httpVersionMajor > 1) watchHttp2(res)
    return entry
  }

  /** It has a function of its own, because a function with a closure allocates on each call. */
  function watchHttp2 (res: ServerResponse): void {
    res.once('pipe', onPipe)
    overrideMethod(res, 'destroy', destroyHttp2)
    // Node's response of a HEAD emits no `close` if the app responded through the stream (`raw.stream.respond()`).
    onStreamClose(res, () => onClose.call(res))
  }
}

/** Records the source of an HTTP/2 answer. With HTTP/1, the source is unpiped after our `close` listener. */
function onPipe (this: ServerResponse, source: Source): void {
  entryOf(this)!.source = source
}

const destroyHttp2 = function (
  this: ServerResponse & { readonly req: IncomingMessage }, error?: Error
): ServerResponse {
  entryOf(this)!.destroyedByServer = true
  return (Object.getPrototypeOf(this) as ServerResponse).destroy.call(this, error)
} as ServerResponse['destroy']

function closeQueued (queued: Iterable<Entry>): void {
  for (const entry of queued) {
    // Node 24 has already destroyed it, with an error that has a code.
    entry.destroyedByServer = entry.res.destroyed &&
      typeof (entry.res.errored as NodeJS.ErrnoException | null)?.code !== 'string'
    closeQueuedResponse(entry.res)
  }
}
