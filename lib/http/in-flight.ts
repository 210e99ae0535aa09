/**
 * What is in flight, exactly: every request from the moment Node has parsed its head until its answer is flushed.
 *
 * Fastify's onRequest/onResponse pair miscounts aborts, hijacked replies, early replies of other plugins and bad URLs, so
 * entries are made at the server's 'request' event (at onRequest for what has none: inject, a server we do not know of)
 * and end at the response's 'close'. Not at `end()`: closing then truncates a slow reader's answer.
 *
 * This file is on the path of every request. While the server runs and requests are only counted, most of them get no entry
 * until somebody wants to know more of them: see `passing.ts`.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify'
import type { InFlight, Track } from '../../types/index'
import { createDetachedHandlers, followHandler, observeHandler, type Detached, type Source } from './detached-handlers'
import { breakOff, closeQueued, isFinished, isGone, isStream, sessionOf, type Carrier } from './response'
import type { Connection, Connections } from './connections'
import { now, turn } from '../util/time'
import { createFarewell } from './connection-close'
import { createPassing } from './fast-path'
import { createLinkedList, type Linked } from '../util/linked-list'
import { overrideMethod, replaceFailure } from '../util/replaced-methods'
import { kEntry } from '../symbols'

/** Which kind of request this is. */
export interface Categories {
  of(request: FastifyRequest): string | null
}

export interface InFlightTable {
  readonly received: number
  readonly completed: number
  readonly rejected: number
  readonly aborted: number
  readonly cutCount: number
  readonly requests: number
  readonly streams: number
  /** The route's handler, so that it counts to its end even where its client leaves earlier. */
  handler(handler: RouteHandlerMethod): RouteHandlerMethod
  /** The server's 'request' event. */
  track(req: IncomingMessage, res: ServerResponse): void
  /** onRequest: now Fastify's request and reply are known. @returns whether the request had been seen by `track`, or is over already */
  identify(reply: FastifyReply): boolean
  /** This answer is our 503. */
  reject(res: ServerResponse): void
  /** From now on every HTTP/1 answer says `Connection: close`, and its connection is ended after it. */
  sayClose(): void
  /** A connection is gone, and nobody has been told yet. */
  lose(connection: Connection): void
  /** Resolves when nothing is in flight but our own 503s, of which there may always be one more, and what has been cut. */
  served(): Promise<void>
  /** Resolves when nothing at all is in flight. */
  empty(): Promise<void>
  /** Sockets with an answer on the way. */
  busySockets(): Set<Socket | null>
  /** HTTP/2 sessions with an answer on the way. */
  busySessions(): Set<unknown>
  /** End these now: the request's signal aborts, then it gets the 503 where its headers are not out, else its socket ends. */
  cut(which: (entry: InFlight) => boolean): Promise<readonly InFlight[]>
  list(): InFlight[]
  signalOf(request: FastifyRequest): AbortSignal
}

export interface InFlightOptions {
  readonly track: Track
  readonly categories: Categories
  readonly connections: Connections
  /** Write the 503. */
  readonly refuse: (res: ServerResponse) => void
  /** This answer ends its connection, maybe while the request is still being sent: let its sender read it. */
  readonly linger: (carrier: Carrier) => void
  /** Why a request's signal is aborted when it is cut. */
  readonly cutReason: () => Error
  /** How long a handler may go on after its client has left, in milliseconds. */
  readonly longest: number
}

/** One request. Made once, with all its fields, so that all of them have one shape. */
export interface Entry extends Linked<Entry>, Carrier {
  readonly connection: Connection | null
  /** Fastify's, once it is known. */
  reply: FastifyReply | null
  /** `refused`: its answer is our 503. `gone`: its client is, its handler is not. */
  state: 'in' | 'refused' | 'gone' | 'cut' | 'over'
  /** Made when somebody asks for its signal. */
  abort: AbortController | null
  readonly startedAt: number | null
  category: string | null
  destroyedByServer: boolean
  /** The stream that is piped into an HTTP/2 answer. It comes off before the answer closes, and then nothing tells of it. */
  source: Source | null
  /** Its handler, once its client has left. */
  detached: Detached | null
}

/** Node's request keeps its entry: the response and Fastify's request both lead there. */
type Tracked = IncomingMessage & { [kEntry]?: Entry }

const entryOf = ({ req }: { readonly req: IncomingMessage }): Entry | undefined => (req as Tracked)[kEntry]

export function createInFlightTable ({ track, categories, connections, refuse, linger, cutReason, longest }: InFlightOptions): InFlightTable {
  const passing = createPassing(connections, res => entryOf(res) !== undefined)
  if (track !== 'count') passing.end()
  const roll = createLinkedList<Entry>()
  const handlers = createDetachedHandlers(longest)
  const farewell = createFarewell(linger)
  const count = { received: 0, completed: 0, rejected: 0, aborted: 0, cut: 0 }
  /** Those whose answer is still owed: neither refused nor cut. */
  let owed = 0
  let closing = false
  let waiters: { readonly done: () => boolean, readonly resolve: () => void }[] = []

  const table: InFlightTable = {
    get received () { return passing.count + count.received },
    get completed () {
      enterAll()
      return passing.count + count.completed
    },
    get rejected () { return count.rejected },
    get aborted () { return count.aborted },
    get cutCount () { return count.cut },
    get requests () { return entries().filter(({ res }) => !isStream(res)).length },
    get streams () { return entries().filter(({ res }) => isStream(res)).length },
    handler: handler => function (this: FastifyInstance, request, reply) {
      const returned = handler.call(this, request, reply) as unknown
      // @fastify/websocket calls the handler of its routes with a WebSocket in the request's place.
      if ((request as Partial<FastifyRequest>).raw === undefined) return returned
      const result = observeHandler(request, reply, returned)
      // A hook before it went on when its client had left already.
      const detached = (request.raw as Tracked)[kEntry]?.detached
      if (detached != null) followHandler(detached)
      return result
    } as RouteHandlerMethod,
    track (req, res) {
      const connection = connections.of(req.socket)
      if (!passing.admit(connection, res)) add(res, connection)
    },
    identify (reply) {
      const { raw: res, request } = reply
      const known = entryOf(res)
      if (known === undefined) {
        if (passing.introduce(reply)) return true
        // A hook before ours may go on when the client has left already: that one has been counted.
        if (isGone({ res, socket: request.raw.socket })) return true
      }
      const entry = known ?? add(res, connections.of(request.raw.socket))
      entry.reply = reply
      if (track !== 'count') entry.category = categories.of(request)
      return known !== undefined
    },
    reject (res) {
      const entry = entryOf(res)
      if (entry?.state !== 'in') return
      entry.state = 'refused'
      owed--
      release()
    },
    sayClose () {
      if (closing) return
      closing = true
      for (const { res, connection } of passing.end()) enter(res, connection)
      for (const entry of roll.toArray()) farewell.say(entry)
    },
    lose (connection) {
      enterFrom(connection)
      const current = passing.current(connection)
      const lost = current === undefined ? undefined : entryOf(current)
      if (lost !== undefined) lost.destroyedByServer = lost.res.destroyed
      const { queued } = connection
      // In the turn in which Node 24 closes them by itself.
      if (queued !== null) process.nextTick(closeAllQueued, queued)
    },
    served: () => until(() => owed === 0),
    empty: () => until(() => roll.size === 0),
    busySockets: () => new Set(entries().map(({ socket }) => socket)),
    busySessions: () => new Set(entries().map(({ res }) => sessionOf(res))),
    async cut (which) {
      const chosen = entries().filter(entry => (entry.state === 'in' || entry.state === 'gone') && which(describe(entry)))
      if (chosen.length === 0) return []
      const seen = chosen.map(describe)
      const flushing = new Set(chosen.filter(({ res }) => res.writableEnded))
      for (const entry of chosen) {
        entry.state = 'cut'
        owed--
        if (entry.abort === null) continue
        replaceFailure(entry.res, refuse)
        entry.abort.abort(cutReason())
      }
      // A handler that heeds its signal may answer by itself: it gets one turn to say so, and what it says is flushed.
      await turn()
      for (const entry of chosen) if (entry.state !== 'over' && (flushing.has(entry) || isGone(entry) || !entry.res.writableEnded)) end(entry)
      release()
      return seen
    },
    list: () => entries().map(describe),
    signalOf (request) {
      const entry = (request.raw as Tracked)[kEntry] ?? find(request) ?? beside(request)
      if (entry.abort === null) {
        entry.abort = new AbortController()
        if (entry.state === 'gone') entry.abort.abort(clientGone())
        else if (entry.state === 'over') entry.abort.abort(cutReason())
      }
      return entry.abort.signal
    }
  }
  return table

  function add (res: ServerResponse, connection: Connection | undefined): Entry {
    const known = entryOf(res)
    if (known !== undefined) return known
    const isQueued = connection !== undefined && res.socket === null && res.req.httpVersionMajor === 1
    // Those of one connection stand in their order: the one that this one waits for comes first.
    if (isQueued) enterFrom(connection)
    const entry = enter(res, connection)
    if (isQueued) (connection.queued ??= new Set()).add(entry)
    // HTTP/2: a stream that was reset right after its head has closed already, and says so to nobody. Its handler still runs.
    if (isGone(entry)) process.nextTick(closeGone, entry)
    if (closing) farewell.say(entry)
    return entry
  }

  function enter (res: ServerResponse, connection: Connection | undefined): Entry {
    const entry = createEntry(res, connection ?? null, track === 'detail' ? now() : null)
    ;(res.req as Tracked)[kEntry] = entry
    const reply = passing.replyOf(res.req)
    if (reply !== undefined) entry.reply = reply
    roll.add(entry)
    count.received++
    owed++
    // Before who pipes into it, and takes his stream off: see `afterlife.ts`.
    res.prependListener('close', closed)
    if (res.req.httpVersionMajor > 1) {
      res.once('pipe', piped)
      overrideMethod(res, 'destroy', destroyHttp2)
    }
    return entry
  }

  /** Whoever asks after those in flight asks after all of them. */
  function entries (): Entry[] {
    enterAll()
    return roll.toArray()
  }

  function enterAll (): void {
    for (const { res, connection } of passing.call()) enter(res, connection)
  }

  function enterFrom (connection: Connection): void {
    const res = passing.callFrom(connection)
    if (res !== undefined) enter(res, connection)
  }

  /** The entry of a request that has none yet, because nobody has asked after it. */
  function find ({ raw }: FastifyRequest): Entry | undefined {
    const known = passing.replyOf(raw)?.raw
    // Its reply is not known yet while hooks before ours run.
    const connection = connections.of(known === undefined ? raw.socket : known.socket)
    if (connection === undefined) return undefined
    const res = known ?? passing.current(connection)
    if (res?.req !== raw) return undefined
    enterFrom(connection)
    return entryOf(res)
  }

  function closed (this: ServerResponse): void {
    const entry = entryOf(this)!
    if (entry.state === 'gone' || entry.state === 'over') return
    if (entry.state !== 'in' || entry.reply === null || isFinished(entry)) return leave(entry)
    detach(entry, entry.reply)
  }

  /** The client is gone, but its handler may go on: no resource may close under it. */
  function detach (entry: Entry, reply: FastifyReply): void {
    entry.state = 'gone'
    entry.abort?.abort(clientGone())
    entry.detached = handlers.follow(entry, reply, entry.source, () => leave(entry))
  }

  function closeGone ({ res }: Entry): void {
    closed.call(res)
  }

  function leave (entry: Entry): void {
    if (entry.state === 'over') return
    const { state } = entry
    if (state === 'cut') count.cut++
    else if (state === 'gone' || !isFinished(entry)) count.aborted++
    else if (state === 'refused') count.rejected++
    else count.completed++
    if (state === 'in' || state === 'gone') owed--
    entry.state = 'over'
    roll.remove(entry)
    entry.connection?.queued?.delete(entry)
    if (entry.detached !== null) handlers.forget(entry.detached)
    if (closing) farewell.keep(entry)
    if (waiters.length > 0) release()
  }

  function end (entry: Entry): void {
    if (isGone(entry)) leave(entry)
    else breakOff(entry, refuse)
  }

  function until (done: () => boolean): Promise<void> {
    return new Promise(resolve => {
      if (done()) resolve()
      else waiters.push({ done, resolve })
    })
  }

  function release (): void {
    for (const { resolve } of waiters.filter(({ done }) => done())) resolve()
    waiters = waiters.filter(({ done }) => !done())
  }
}

function closeAllQueued (queued: Iterable<Entry>): void {
  for (const entry of queued) {
    // Node 24 has destroyed it by now, with an error of its own.
    entry.destroyedByServer = entry.res.destroyed && typeof (entry.res.errored as NodeJS.ErrnoException | null)?.code !== 'string'
    closeQueued(entry.res)
  }
}

const destroyHttp2 = function (this: ServerResponse, error?: Error): ServerResponse {
  entryOf(this)!.destroyedByServer = true
  return (Object.getPrototypeOf(this) as ServerResponse).destroy.call(this, error)
} as ServerResponse['destroy']

function piped (this: ServerResponse, source: Source): void {
  entryOf(this)!.source = source
}

function createEntry (res: ServerResponse, connection: Connection | null, startedAt: number | null): Entry {
  const socket = connection?.socket ?? res.req?.socket ?? null
  return { res, socket, connection, reply: null, state: 'in', abort: null, startedAt, category: null, destroyedByServer: false, source: null, detached: null, previous: null, next: null }
}

/** For what is not in the table: an upgrade, whose connection is its client, or a request that is over already. */
function beside (request: FastifyRequest): Entry {
  const entry = createEntry({} as ServerResponse, null, null) // it has no response that anybody will ask for
  const isUpgrade = (request.raw as { upgrade?: boolean }).upgrade === true
  if (!isUpgrade) entry.state = 'over'
  else (request.raw.socket as Socket | null)?.once('close', () => entry.abort?.abort(clientGone()))
  ;(request.raw as Tracked)[kEntry] = entry
  return entry
}

function describe ({ res, reply, startedAt, category }: Entry): InFlight {
  const request = reply?.request
  return {
    id: request === undefined ? '' : String(request.id),
    method: res.req.method ?? '',
    route: request?.routeOptions.url ?? '',
    ageMs: startedAt === null ? null : now() - startedAt,
    category,
    kind: isStream(res) ? 'stream' : 'request'
  }
}

function clientGone (): DOMException {
  return new DOMException('The client is gone', 'AbortError')
}
