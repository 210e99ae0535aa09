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
import type { FastifyInstance, FastifyRequest, RouteHandlerMethod } from 'fastify'
import type { InFlight, Track } from '../types/index'
import { breakOff, isFinished, isGone, isStream, sessionOf, speakFor } from './answer'
import { createAfterlife, hijacked, type Handler } from './afterlife'
import type { Connection, Connections } from './connections'
import { now, turn } from './deadline'
import { createFarewell } from './farewell'
import { createPassing, currentOf } from './passing'
import { createRoll, type Linked } from './roll'

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
  /** onRequest: now Fastify's request is known. @returns whether the request had been seen by `track`, or is over already */
  identify(request: FastifyRequest, res: ServerResponse): boolean
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
  busySockets(): Set<Socket>
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
  readonly linger: (req: IncomingMessage) => void
  /** Why a request's signal is aborted when it is cut. */
  readonly cutReason: () => Error
  /** How long a handler without a promise is believed to run on after its client left, in milliseconds. */
  readonly longest: number
}

/** One request. Made once, with all its fields, so that all of them have one shape. */
interface Entry extends Linked<Entry> {
  readonly res: ServerResponse
  /** Fastify's, once it is known. */
  request: FastifyRequest | null
  /** `refused`: its answer is our 503. `gone`: its client is, its handler is not. */
  state: 'in' | 'refused' | 'gone' | 'cut' | 'over'
  /** Made when somebody asks for its signal. */
  abort: AbortController | null
  readonly startedAt: number | null
  category: string | null
}

/** Where a response keeps its entry. */
const key = Symbol('fastify-shutdown.entry')

/** Where Fastify's request keeps it, and what is known of its handler. Not decorated: that costs every request, whether it has them or not. */
const entryOf = Symbol('fastify-shutdown.entry')
const handlerOf = Symbol('fastify-shutdown.handler')

type Tracked = ServerResponse & { [key]?: Entry }
type Known = FastifyRequest & { [entryOf]?: Entry, [handlerOf]?: Handler }

export function createInFlightTable ({ track, categories, connections, refuse, linger, cutReason, longest }: InFlightOptions): InFlightTable {
  const passing = createPassing(connections, res => (res as Tracked)[key] !== undefined)
  if (track !== 'count') passing.end()
  const roll = createRoll<Entry>()
  const afterlife = createAfterlife(longest)
  const farewell = createFarewell(linger)
  /** Connections on which an answer has waited behind another. */
  const pipelines = new WeakSet<Socket>()
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
      const result = handler.call(this, request, reply) as unknown
      if (typeof (result as PromiseLike<unknown> | undefined)?.then === 'function') (request as Known)[handlerOf] = result as PromiseLike<unknown>
      else if (!reply.raw.writableEnded && reply.sent) (request as Known)[handlerOf] = hijacked
      // A hook before it went on when its client had left already.
      const entry = (request as Known)[entryOf]
      if (entry?.state === 'gone') outlive(entry)
      return result
    } as RouteHandlerMethod,
    track (req, res) {
      if (!passing.admit(req, res)) add(res)
    },
    identify (request, res) {
      const known = (res as Tracked)[key]
      if (known === undefined) {
        if (passing.introduce(request, res)) return true
        // A hook before ours may go on when the client has left already: that one has been counted.
        if (isGone(res)) return true
      }
      const entry = known ?? add(res)
      know(entry, request)
      if (track !== 'count') entry.category = categories.of(request)
      return known !== undefined
    },
    reject (res) {
      const entry = (res as Tracked)[key]
      if (entry?.state !== 'in') return
      entry.state = 'refused'
      owed--
      release()
    },
    sayClose () {
      if (closing) return
      closing = true
      for (const res of passing.end()) enter(res)
      for (const { res } of roll.all()) farewell.say(res)
    },
    lose: enterFrom,
    served: () => until(() => owed === 0),
    empty: () => until(() => roll.size === 0),
    busySockets: () => new Set(entries().map(({ res }) => res.req.socket)),
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
        speakFor(entry.res, refuse)
        entry.abort.abort(cutReason())
      }
      // A handler that heeds its signal may answer by itself: it gets one turn to say so, and what it says is flushed.
      await turn()
      for (const entry of chosen) if (entry.state !== 'over' && (flushing.has(entry) || isGone(entry.res) || !entry.res.writableEnded)) end(entry)
      release()
      return seen
    },
    list: () => entries().map(describe),
    signalOf (request: Known) {
      const entry = request[entryOf] ?? find(request) ?? beside(request)
      know(entry, request)
      if (entry.abort === null) {
        entry.abort = new AbortController()
        if (entry.state === 'over') entry.abort.abort(cutReason())
      }
      return entry.abort.signal
    }
  }
  return table

  function add (res: ServerResponse): Entry {
    const known = (res as Tracked)[key]
    if (known !== undefined) return known
    // Those of one connection stand in their order: the one that this one waits for comes first.
    if (res.socket === null) followPipeline(res.req.socket)
    const entry = enter(res)
    if (closing) farewell.say(res)
    return entry
  }

  function enter (res: ServerResponse): Entry {
    const entry = createEntry(res, passing.requestOf(res), track === 'detail' ? now() : null)
    ;(res as Tracked)[key] = entry
    if (entry.request !== null) know(entry, entry.request)
    roll.add(entry)
    count.received++
    owed++
    // Before who pipes into it, and takes his stream off: see `afterlife.ts`.
    res.prependListener('close', closed)
    return entry
  }

  function know (entry: Entry, request: Known): void {
    entry.request = request
    request[entryOf] = entry
  }

  /** Whoever asks after those in flight asks after all of them. */
  function entries (): Entry[] {
    enterAll()
    return roll.all()
  }

  function enterAll (): void {
    for (const res of passing.call()) enter(res)
  }

  function enterFrom (connection: Connection | undefined): Entry | undefined {
    const res = passing.callFrom(connection)
    return res === undefined ? undefined : enter(res)
  }

  /** The entry of a request that nobody has asked after, or that has not been identified yet. */
  function find ({ raw }: FastifyRequest): Entry | undefined {
    const res = currentOf(raw.socket)
    if (res == null || res.req !== raw) return undefined
    return enterFrom(connections.of(raw.socket)) ?? (res as Tracked)[key]
  }

  function closed (this: ServerResponse): void {
    const entry = (this as Tracked)[key]!
    if (entry.state === 'gone' || entry.state === 'over') return
    if (entry.state !== 'in' || entry.request === null || isFinished(this)) return leave(entry)
    entry.state = 'gone'
    entry.abort?.abort(clientGone())
    outlive(entry)
  }

  /** The client is gone, but its handler may go on: no resource may close under it. */
  function outlive (entry: Entry): void {
    afterlife.follow(entry.res, (entry.request as Known | null)?.[handlerOf] ?? null, () => leave(entry))
  }

  /**
   * A pipelined answer that waits behind another has no socket yet, and never closes when the client goes away; its request
   * says nothing either, once its body has been read. One listener for each such connection, not for each request.
   */
  function followPipeline (socket: Socket): void {
    enterFrom(connections.of(socket))
    if (pipelines.has(socket)) return
    pipelines.add(socket)
    socket.once('close', abandoned)
  }

  function abandoned (this: Socket): void {
    for (const { res } of roll.all()) if (res.socket === null && res.req.socket === this) closed.call(res)
  }

  function leave (entry: Entry): void {
    if (entry.state === 'over') return
    const { res, state } = entry
    if (state === 'cut') count.cut++
    else if (state === 'gone' || !isFinished(res)) count.aborted++
    else if (state === 'refused') count.rejected++
    else count.completed++
    if (state === 'in' || state === 'gone') owed--
    entry.state = 'over'
    roll.remove(entry)
    if (state === 'gone' || state === 'cut') afterlife.forget(res)
    if (closing) farewell.keep(res)
    if (waiters.length > 0) release()
  }

  function end (entry: Entry): void {
    if (isGone(entry.res)) leave(entry)
    else breakOff(entry.res, refuse)
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

function createEntry (res: ServerResponse, request: FastifyRequest | null, startedAt: number | null): Entry {
  return { res, request, state: 'in', abort: null, startedAt, category: null, previous: null, next: null }
}

/** For what is not in the table: an upgrade, whose connection is its client, or a request that is over already. */
function beside (request: FastifyRequest): Entry {
  const entry = createEntry({} as ServerResponse, request, null) // it has no response that anybody will ask for
  const isUpgrade = (request.raw as { upgrade?: boolean }).upgrade === true
  if (!isUpgrade) entry.state = 'over'
  else (request.raw.socket as Socket | undefined)?.once('close', () => entry.abort?.abort(clientGone()))
  return entry
}

function describe ({ res, request, startedAt, category }: Entry): InFlight {
  return {
    id: request === null ? '' : String(request.id),
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
