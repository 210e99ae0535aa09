/** One request in flight: an entry in the table of `in-flight.ts`. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { InFlight } from '../../types/index'
import { received } from '../errors'
import { kEntry } from '../symbols'
import type { Linked } from '../util/linked-list'
import { now } from '../util/time'
import type { Connection } from './connections'
import type { Detached, Source } from './detached-handler'
import { endedBy, isFlushed, isStream, waitsForClient, type Exchange } from './response'

/**
 * The state of a request:
 * - `active`: it is handled, and its client waits for the answer
 * - `rejected`: its answer is our 503
 * - `detached`: its client has left, and its handler still runs
 * - `cut`: its time was up
 * - `closed`: it is no longer in flight
 */
export type EntryState = 'active' | 'rejected' | 'detached' | 'cut' | 'closed'

/** What became of a request that is no longer in flight. */
export type EntryResult = 'completed' | 'rejected' | 'aborted' | 'cut'

/** One request. It is created once, with all its fields, so that all entries have one shape. */
export interface Entry extends Linked<Entry>, Exchange {
  readonly connection: Connection | null
  /** Fastify's reply; `null` until our onRequest hook has run. */
  reply: FastifyReply | null
  /** The state of the request. */
  state: EntryState
  /** `null` while it is in flight, and for a request that is not in the table. A detached one that is cut has it. */
  result: EntryResult | null
  /** Created when the request's signal is read for the first time. */
  abort: AbortController | null
  /** The time at which the request arrived, by the clock of `util/time.ts`; `null` unless `track` is `detail`. */
  readonly startedAt: number | null
  category: string | null
  /**
   * Whether the drain waits for it. A property, and not a Set of entries: see `util/linked-list.ts` for the reason.
   */
  isAwaited: boolean
  /** Whether the app has destroyed the response. */
  destroyedByServer: boolean
  /** The stream that is piped into an HTTP/2 answer. It is recorded because it is unpiped before the answer closes. */
  source: Source | null
  /** The detached handler, if the client has left. */
  detached: Detached | null
}

/** A request of Node with its entry. The response and Fastify's request both have a reference to it. */
type WithEntry = IncomingMessage & { [kEntry]?: Entry }

/** Returns the entry of a request. */
export function entryOfRequest (req: IncomingMessage): Entry | undefined {
  return (req as WithEntry)[kEntry]
}

/** Returns the entry of a response. An entry outside of the table has none. */
export function entryOf (res: ServerResponse): Entry | undefined {
  const entry = entryOfRequest(res.req)
  return entry?.res === res ? entry : undefined
}

/**
 * Creates the entry of a request.
 *
 * @param startedAt the time at which the request arrived, by the clock of `util/time.ts`
 */
export function createEntry (
  req: IncomingMessage, res: ServerResponse, connection: Connection | null, startedAt: number | null
): Entry {
  const socket = connection?.socket ?? req.socket ?? null
  // A hook before ours may have read the signal of a request that the table did not know yet (inject).
  const abort = entryOfRequest(req)?.abort ?? null
  const entry: Entry = {
    res,
    socket,
    connection,
    reply: null,
    state: 'active',
    result: null,
    abort,
    startedAt,
    category: null,
    isAwaited: true,
    destroyedByServer: false,
    source: null,
    detached: null,
    previous: null,
    next: null
  }
  ;(req as WithEntry)[kEntry] = entry
  return entry
}

/**
 * Creates the entry of a request that is not in the table, for its signal: an upgrade, whose signal aborts with its
 * connection, a request of the fast path that is over, or one that comes into the table at onRequest.
 */
export function createEntryOutside ({ raw }: Pick<FastifyRequest, 'raw'>): Entry {
  const entry = createEntry(raw, {} as ServerResponse, null, null) // Nothing reads its response.
  if ((raw as { upgrade?: boolean }).upgrade === true) {
    (raw.socket as Socket | null)?.once('close', () => entry.abort?.abort(clientLeft()))
  }
  return entry
}

/** Describes a request, for reports and logs. */
export function describeEntry (entry: Entry): InFlight {
  const { res, reply, startedAt, category } = entry
  const request = reply?.request
  return {
    id: request === undefined ? '' : textOfId(request.id),
    method: res.req.method ?? '',
    route: request === undefined ? routeOfExpress(res.req) : request.routeOptions.url ?? '',
    ageMs: startedAt === null ? null : now() - startedAt,
    category,
    kind: isStream(res) ? 'stream' : 'request',
    waitsFor: waitsForClient(entry) ? 'client' : 'app'
  }
}

/**
 * Returns the pattern of the route that Express has chosen, or `''`. Express knows the prefix of a router only with the
 * values of its parameters (`req.baseUrl`), so the prefix is shown as `*`.
 */
function routeOfExpress (req: IncomingMessage): string {
  const { route, baseUrl } = req as { readonly route?: { readonly path?: unknown } | null, readonly baseUrl?: unknown }
  const path = route?.path
  if (typeof path !== 'string') return ''
  return typeof baseUrl === 'string' && baseUrl !== '' ? `*${path}` : path
}

/** Returns an id as text. `genReqId` may return any value, although Fastify's type of `request.id` is string. */
export function textOfId (id: unknown): string {
  try {
    return String(id)
  } catch {
    return received(id)
  }
}

/** Returns the result of a request that is over. @param closing whether the shutdown has begun */
export function resultOf (entry: Entry, closing: boolean): EntryResult {
  if (entry.state === 'cut') return 'cut'
  if (entry.state === 'detached') return entry.result ?? 'aborted'
  if (isFlushed(entry)) return entry.state === 'rejected' ? 'rejected' : 'completed'
  return closing && isDestroyed(entry) ? 'cut' : 'aborted'
}

/**
 * Returns whether the server itself has destroyed an answer: during a shutdown, another plugin may call
 * `closeAllConnections()`. A rejected request that is pipelined does not count, because its connection may close after
 * the answer before it.
 */
export function isDestroyed (entry: Entry): boolean {
  const isDropped = entry.state === 'rejected' && entry.connection?.queued?.has(entry) === true
  return !isDropped && endedBy(entry) === 'server'
}

/** Returns the signal of a request. @param cutReason creates the reason if the request has been cut */
export function signalOfEntry (entry: Entry, cutReason: () => Error): AbortSignal {
  if (entry.abort === null) {
    entry.abort = new AbortController()
    if (entry.state === 'detached' || entry.result === 'aborted') entry.abort.abort(clientLeft())
    else if (entry.state === 'cut' || entry.result === 'cut') entry.abort.abort(cutReason())
  }
  return entry.abort.signal
}

/** Creates the reason of a signal that aborts because the client has left. */
export function clientLeft (): DOMException {
  return new DOMException('The client has left', 'AbortError')
}
