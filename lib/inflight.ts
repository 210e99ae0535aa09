/**
 * What is in flight, exactly: every request from the moment Node has parsed its head until its answer is flushed.
 *
 * Fastify's onRequest/onResponse pair miscounts aborts, hijacked replies, early replies of other plugins and bad URLs, so
 * entries are made at the server's 'request' event (at onRequest for what has none: inject, a server we do not know of)
 * and end at the response's 'close'. Not at `end()`: closing then truncates a slow reader's answer.
 *
 * This file is on the path of every request. While the server runs it costs one Map entry and one shared listener.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import type { FastifyInstance, FastifyRequest, RouteHandlerMethod } from 'fastify'
import type { InFlight, Track } from '../types/index'
import { every, now, turn } from './deadline'

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
  /** All in flight, requests and streams. */
  readonly size: number
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
  /** Called for each entry that ends while someone listens. */
  onEnd: ((entry: InFlight, how: 'completed' | 'rejected' | 'aborted' | 'cut') => void) | null
}

interface Detail {
  readonly startedAt: number | null
  category: string | null
}

/**
 * Where Fastify's request keeps the promise of its handler, or one of the words below. Decorated, so that every request is
 * born with the place.
 */
export const running = Symbol('fastify-shutdown.running')

/** The handler took the answer away from Fastify: that is over when its connection says so, there is no other sign. */
const hijacked = 'hijacked'
/** Nothing of this request is left. */
const over = 'over'

/** How often handlers that outlive their client are looked through for those that never answer, in milliseconds. */
const sweepStep = 1_000

/** NGHTTP2_CANCEL, without loading node:http2 for those who have no use for it. */
const http2Cancel = 8

/** The part of Http2ServerResponse that ServerResponse does not have. */
interface Http2Answer {
  readonly stream?: { readonly aborted: boolean, readonly session: unknown, close(code: number): void }
}

type Running = FastifyRequest & { [running]?: PromiseLike<unknown> | typeof hijacked | typeof over | null }

/** The part of a Readable that matters for its end. */
interface Source {
  readonly closed: boolean
  once(event: 'close', listener: () => void): unknown
}

export interface InFlightOptions {
  readonly track: Track
  readonly categories: Categories
  /** Write the 503. */
  readonly refuse: (res: ServerResponse) => void
  /** This answer ends its connection, maybe while the request is still being sent: let its sender read it. */
  readonly linger: (req: IncomingMessage) => void
  /** Why a request's signal is aborted when it is cut. */
  readonly cutReason: () => Error
  /** How long a handler without a promise is believed to run on after its client left, in milliseconds. */
  readonly longest: number
}

export function createInFlightTable ({ track, categories, refuse, linger, cutReason, longest }: InFlightOptions): InFlightTable {
  /** Fastify's request, once it is known. A Map keeps the order of arrival, which pipelining needs. */
  const entries = new Map<ServerResponse, FastifyRequest | null>()
  /** Their client is gone, their handler is not. */
  const gone = new Set<ServerResponse>()
  /** Those of them that may never say that they are over, and since when. */
  const orphans = new Map<ServerResponse, number>()
  /** What they were reading from. */
  const sources = new Map<ServerResponse, Source>()
  /** Only for `track` above 'count'. */
  const details = new Map<ServerResponse, Detail>()
  const signals = new WeakMap<FastifyRequest, AbortController>()
  /** Connections on which an answer has waited behind another. */
  const pipelines = new WeakSet<Socket>()
  const rejecting = new Set<ServerResponse>()
  const cutting = new Set<ServerResponse>()
  /** The last answer promised on each connection, and whether it would have kept it alive. Only while closing. */
  const lastAnswers = new Map<Socket, { readonly res: ServerResponse, readonly keepAlive: boolean }>()
  const remembers = track !== 'count'
  let hasSignals = false
  let closing = false
  let stopSweeping = (): void => {}
  let waiters: { readonly done: () => boolean, readonly resolve: () => void }[] = []
  const isEmpty = (): boolean => entries.size === 0
  const isServed = (): boolean => entries.size === rejecting.size + cutting.size
  const count = { received: 0, completed: 0, rejected: 0, aborted: 0, cut: 0 }

  const table: InFlightTable = {
    get received () { return count.received },
    get completed () { return count.completed },
    get rejected () { return count.rejected },
    get aborted () { return count.aborted },
    get cutCount () { return count.cut },
    get size () { return entries.size },
    get requests () { return entries.size - table.streams },
    get streams () {
      let streams = 0
      for (const res of entries.keys()) if (isStream(res)) streams++
      return streams
    },
    handler: handler => function (this: FastifyInstance, request, reply) {
      const result = handler.call(this, request, reply) as unknown
      if (typeof (result as PromiseLike<unknown> | undefined)?.then === 'function') (request as Running)[running] = result as PromiseLike<unknown>
      else if (reply.sent && !reply.raw.writableEnded) (request as Running)[running] = hijacked
      // A hook before it went on when its client had left already.
      if (gone.size > 0 && gone.has(reply.raw)) outlive(request, reply.raw)
      return result
    } as RouteHandlerMethod,
    track: add,
    identify (request, res) {
      const known = entries.has(res)
      // A hook before ours may go on when the client has left already: that one has been counted.
      if (!known && isGone(res)) return true
      if (!known) add(request.raw, res)
      entries.set(res, request)
      if (remembers) details.get(res)!.category = categories.of(request)
      return known
    },
    reject (res) {
      if (!entries.has(res) || cutting.has(res)) return
      rejecting.add(res)
      release()
    },
    sayClose () {
      if (closing) return
      closing = true
      for (const res of entries.keys()) promiseClose(res)
    },
    served: () => until(isServed),
    empty: () => until(isEmpty),
    busySockets: () => new Set(Array.from(entries.keys(), res => res.req.socket)),
    busySessions: () => new Set(Array.from(entries.keys(), res => (res as unknown as Http2Answer).stream?.session)),
    async cut (which) {
      const chosen = [...entries.keys()].filter(res => !cutting.has(res) && !rejecting.has(res) && which(describe(res)))
      const seen = chosen.map(describe)
      const stuck = new Set(chosen.filter(res => res.writableEnded))
      for (const res of chosen) {
        cutting.add(res)
        const request = entries.get(res)
        if (request != null) endSignal(request, cutReason())
      }
      // A handler that heeds its signal may answer by itself: it gets one turn to say so, and what it says is flushed.
      await turn()
      for (const res of chosen) if (entries.has(res) && (stuck.has(res) || gone.has(res) || !res.writableEnded)) end(res)
      release()
      return seen
    },
    list: () => Array.from(entries.keys(), describe),
    signalOf (request: Running) {
      let abort = signals.get(request)
      if (abort !== undefined) return abort.signal
      abort = new AbortController()
      signals.set(request, abort)
      hasSignals = true
      if (request[running] === over) abort.abort(cutReason())
      // An upgrade is not in the table; its connection is its client.
      else if ((request.raw as { upgrade?: boolean }).upgrade === true) (request.raw.socket as Socket | undefined)?.once('close', () => endSignal(request, clientGone()))
      return abort.signal
    },
    onEnd: null
  }
  return table

  function add (req: IncomingMessage, res: ServerResponse): void {
    if (entries.has(res)) return
    entries.set(res, null)
    count.received++
    if (remembers) details.set(res, { startedAt: track === 'detail' ? now() : null, category: null })
    res.on('close', closed)
    if (res.socket === null) followPipeline(req.socket)
    if (closing) promiseClose(res)
  }

  function closed (this: ServerResponse): void {
    if (gone.has(this)) return
    const request = entries.get(this)
    if (request == null || isFinished(this) || cutting.has(this)) return leave(this)
    gone.add(this)
    endSignal(request, clientGone())
    outlive(request, this)
  }

  /** The client is gone, but its handler may go on: no resource may close under it. */
  function outlive (request: Running, res: ServerResponse): void {
    const handler = request[running]
    if (handler === hijacked || handler === over) return leave(res)
    // A stream that is piped into the answer comes off in this very turn. Not so with HTTP/2, where it has come off before.
    res.once('unpipe', rememberSource)
    // `await reply`: the promise waits for the answer, as Fastify's does with a listener that nobody else has a use for, and
    // says nothing of the work.
    const awaitsAnswer = res.listenerCount('end') > 0
    if (handler == null) queueMicrotask(() => settle(res))
    else handler.then(value => settle(res, isSource(value) ? value : undefined, value !== undefined || !awaitsAnswer), () => leave(res))
  }

  function rememberSource (this: ServerResponse, source: Source): void {
    sources.set(this, source)
  }

  /** Its promise is over, or it has none. @param returned whether it had one, and so has no more to say */
  function settle (res: ServerResponse, source = sources.get(res), returned = false): void {
    if (!entries.has(res)) return
    if (source !== undefined && !source.closed) {
      // It may have a cursor to give back, or a file to close.
      source.once('close', () => leave(res))
      return adopt(res)
    }
    // Whoever writes by hand looks at the connection, and that is gone.
    if (returned || res.headersSent || res.writableEnded) return leave(res)
    // No promise: it is over when it answers, to nobody.
    const end = res.end
    res.end = function (this: ServerResponse, ...args: unknown[]) {
      leave(res)
      return (end as (...args: unknown[]) => ServerResponse).apply(this, args)
    } as typeof res.end
    adopt(res)
  }

  /** One that never says that it is over is forgotten in time. */
  function adopt (res: ServerResponse): void {
    if (orphans.size === 0) stopSweeping = every(Math.min(sweepStep, Math.max(1, longest)), sweep)
    orphans.set(res, now())
  }

  function sweep (): void {
    const time = now()
    for (const [res, since] of orphans) {
      if (time - since < longest) break
      leave(res)
    }
  }

  /**
   * A pipelined answer that waits behind another has no socket yet, and never closes when the client goes away; its request
   * says nothing either, once its body has been read. One listener for each such connection, not for each request.
   */
  function followPipeline (socket: Socket): void {
    if (pipelines.has(socket)) return
    pipelines.add(socket)
    socket.once('close', abandoned)
  }

  function abandoned (this: Socket): void {
    for (const res of [...entries.keys()]) if (res.socket === null && res.req.socket === this) closed.call(res)
  }

  function leave (res: ServerResponse): void {
    const request = entries.get(res)
    if (request === undefined) return
    const how = cutting.delete(res) ? 'cut' : gone.has(res) || !isFinished(res) ? 'aborted' : rejecting.has(res) ? 'rejected' : 'completed'
    count[how]++
    if (table.onEnd !== null) table.onEnd(describe(res), how)
    entries.delete(res)
    if (remembers) details.delete(res)
    if (gone.delete(res)) disown(res)
    if (rejecting.size > 0) rejecting.delete(res)
    if (request !== null) {
      (request as Running)[running] = over
      if (hasSignals) signals.delete(request)
    }
    if (closing) endConnection(res)
    if (waiters.length > 0) release()
  }

  function disown (res: ServerResponse): void {
    sources.delete(res)
    if (orphans.delete(res) && orphans.size === 0) stopSweeping()
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

  function endSignal (request: FastifyRequest, reason: Error): void {
    if (!hasSignals) return
    signals.get(request)?.abort(reason)
  }

  /**
   * Node closes the connection after an answer that says so, and throws away what was pipelined behind it. So only the
   * last answer on a connection says it; when one more comes, it takes the word over from the one before.
   */
  function promiseClose (res: ServerResponse): void {
    if (res.req.httpVersionMajor > 1) return
    const { socket } = res.req
    linger(res.req)
    const before = lastAnswers.get(socket)
    if (before !== undefined && !before.res.headersSent) before.res.shouldKeepAlive = before.keepAlive
    lastAnswers.set(socket, { res, keepAlive: res.shouldKeepAlive })
    if (!res.headersSent) res.shouldKeepAlive = false
  }

  /** For answers whose headers were out before we could say `close`, or that said `keep-alive` themselves. */
  function endConnection (res: ServerResponse): void {
    const { socket } = res.req
    if (lastAnswers.get(socket)?.res !== res) return
    lastAnswers.delete(socket)
    // destroySoon flushes first; inject has a socket without it.
    if (!socket.destroyed) socket.destroySoon?.()
  }

  function end (res: ServerResponse): void {
    const { stream } = res as unknown as Http2Answer
    if (gone.has(res)) leave(res)
    else if (!res.headersSent && !res.writableEnded) refuse(res)
    // HTTP/2: one stream of many on its connection. CANCEL says that nothing is wrong with the rest (RFC 9113, section 7).
    else if (stream !== undefined) stream.close(http2Cancel)
    else if (!res.writableEnded || res.req.socket === null) res.destroy()
    else res.req.socket.destroy() // handed over whole, and its reader does not read
  }

  function describe (res: ServerResponse): InFlight {
    const request = entries.get(res)
    const detail = details.get(res)
    return {
      id: request == null ? '' : String(request.id),
      method: res.req.method ?? '',
      route: request?.routeOptions.url ?? '',
      ageMs: detail?.startedAt == null ? null : now() - detail.startedAt,
      category: detail?.category ?? null,
      kind: isStream(res) ? 'stream' : 'request'
    }
  }
}

function clientGone (): DOMException {
  return new DOMException('The client is gone', 'AbortError')
}

function isSource (value: unknown): value is Source {
  const source = value as Partial<Source> | null | undefined
  return typeof source?.closed === 'boolean' && typeof source.once === 'function'
}

/** Headers out and body not over. An answer that was handed over whole and is still being flushed is a request. */
function isStream (res: ServerResponse): boolean {
  return res.headersSent && !res.writableEnded
}

/** Its client has left: `close` has been emitted, or never will be, as for an answer that waited behind another. */
function isGone (res: ServerResponse): boolean {
  const { stream } = res as unknown as { stream?: { destroyed: boolean } }
  return res.destroyed || stream?.destroyed === true || res.req.socket.destroyed
}

/**
 * Whether all of it reached the kernel. HTTP/2's compatible response says `writableFinished` of one that was reset, too;
 * inject's closes before it is finished, and has nobody who could leave in between.
 */
function isFinished (res: ServerResponse): boolean {
  if (!res.writableEnded) return false
  const { stream } = res as unknown as { stream?: { aborted: boolean } }
  if (stream !== undefined) return !stream.aborted
  return res.writableFinished || !(res.req.socket instanceof Socket)
}
