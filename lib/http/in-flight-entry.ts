/** One request in flight: what the table of `in-flight.ts` keeps of it. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { InFlight } from '../../types/index'
import { kEntry } from '../symbols'
import type { Linked } from '../util/linked-list'
import { now } from '../util/time'
import type { Connection } from './connections'
import type { Detached, Source } from './detached-handlers'
import { isStream, type Exchange } from './response'

/**
 * - `active`: it is handled, and its client waits for the answer
 * - `rejected`: its answer is our 503
 * - `detached`: its client has left, and its handler still runs
 * - `cut`: its time was up
 * - `closed`: it is no longer in flight
 */
export type EntryState = 'active' | 'rejected' | 'detached' | 'cut' | 'closed'

/** One request. It is created once, with all its fields, so that all entries have one shape. */
export interface Entry extends Linked<Entry>, Exchange {
  readonly connection: Connection | null
  /** Fastify's reply, once it is known. */
  reply: FastifyReply | null
  state: EntryState
  /** Created when the request's signal is read for the first time. */
  abort: AbortController | null
  readonly startedAt: number | null
  category: string | null
  destroyedByServer: boolean
  /** The stream that is piped into an HTTP/2 answer. It is unpiped before the answer closes, and no event names it then. */
  source: Source | null
  /** Its handler, if its client has left. */
  detached: Detached | null
}

/** Node's request keeps the entry: the response and Fastify's request both lead there. */
type WithEntry = IncomingMessage & { [kEntry]?: Entry }

/** Returns the entry of a request. */
export function entryOfRequest (req: IncomingMessage): Entry | undefined {
  return (req as WithEntry)[kEntry]
}

/** Returns the entry of a response. */
export function entryOf ({ req }: ServerResponse): Entry | undefined {
  return (req as WithEntry)[kEntry]
}

/** Creates the entry of a request. @param startedAt when the request began, by the clock of `util/time.ts` */
export function createEntry (req: IncomingMessage, res: ServerResponse, connection: Connection | null, startedAt: number | null): Entry {
  const socket = connection?.socket ?? req.socket ?? null
  const entry: Entry = { res, socket, connection, reply: null, state: 'active', abort: null, startedAt, category: null, destroyedByServer: false, source: null, detached: null, previous: null, next: null }
  ;(req as WithEntry)[kEntry] = entry
  return entry
}

/**
 * Creates the entry of a request that is not in the table, for its signal: an upgrade, whose signal aborts with its connection, or
 * a request that is over.
 */
export function createEntryOutside ({ raw }: FastifyRequest): Entry {
  const entry = createEntry(raw, {} as ServerResponse, null, null) // Nothing reads its response.
  if ((raw as { upgrade?: boolean }).upgrade !== true) entry.state = 'closed'
  else (raw.socket as Socket | null)?.once('close', () => entry.abort?.abort(clientLeft()))
  return entry
}

/** Returns what a report says of a request. */
export function describeEntry ({ res, reply, startedAt, category }: Entry): InFlight {
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

/** Returns the signal of a request. @param cutReason creates the reason if the request is over already */
export function signalOfEntry (entry: Entry, cutReason: () => Error): AbortSignal {
  if (entry.abort === null) {
    entry.abort = new AbortController()
    if (entry.state === 'detached') entry.abort.abort(clientLeft())
    else if (entry.state === 'closed') entry.abort.abort(cutReason())
  }
  return entry.abort.signal
}

/** Creates the reason of a signal that aborts because the client has left. */
export function clientLeft (): DOMException {
  return new DOMException('The client is gone', 'AbortError')
}
