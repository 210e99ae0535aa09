/**
 * The fast path. An ordinary HTTP/1 request costs one counter while the server runs. It gets an entry in the table of
 * requests in flight only when its details are needed.
 *
 * A request on the fast path can be found again, because each socket has a reference to the response that it sends now.
 * There is no such reference for a pipelined response that waits, for HTTP/2 and for inject. These requests get an
 * entry at once.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import { kReply } from '../symbols'
import { currentResponse } from '../util/node-internals'
import type { Connection, Connections } from './connections'

/** A response that was on the fast path, and its connection. */
export interface TakenResponse {
  readonly res: ServerResponse
  readonly connection: Connection
}

/** The requests without an entry. */
export interface FastPath {
  /** How many requests have used the fast path, without the requests that were taken off. */
  readonly count: number
  /** Counts a new request if it can be found again. @returns whether it was counted; otherwise it needs an entry */
  add(connection: Connection | undefined, res: ServerResponse): connection is Connection
  /** Keeps the reply of Fastify. @returns whether its request is on the fast path */
  identify(reply: FastifyReply): boolean
  /** Takes all requests in flight off the fast path. The caller creates their entries. */
  takeAll(): TakenResponse[]
  /** Takes the request in flight on one connection off the fast path. */
  takeFrom(connection: Connection): ServerResponse | undefined
  /** Returns the response that a connection sends now, also if it has an entry. */
  currentOf(connection: Connection): ServerResponse | undefined
  /** Returns the reply of Fastify for a request that is or was on the fast path. */
  replyOf(req: IncomingMessage): FastifyReply | undefined
  /** Closes the fast path: from now on, every request needs an entry. @returns as `takeAll` */
  close(): TakenResponse[]
  /**
   * Returns the responses in flight without an entry, after the fast path is closed. No listener of ours got their
   * requests: the app answers in another way, as in a replaced `server.emit`.
   */
  findUnseen(): TakenResponse[]
}

/** A request of Node with its reply. A response has a reference to its request. */
type WithReply = IncomingMessage & { [kReply]?: FastifyReply }

/** Creates an open fast path. @param hasEntry returns whether a response has an entry in the table */
export function createFastPath (connections: Connections, hasEntry: (res: ServerResponse) => boolean): FastPath {
  let count = 0
  let closed = false

  return {
    get count () { return count },
    add (connection, res): connection is Connection {
      if (closed || connection === undefined || currentResponse(connection.socket) !== res) return false
      connection.usesFastPath = true
      count++
      return true
    },
    identify (reply) {
      if (connections.of(reply.raw.socket)?.usesFastPath !== true) return false
      ;(reply.request.raw as WithReply)[kReply] = reply
      return true
    },
    takeAll,
    takeFrom,
    currentOf: ({ socket }) => currentResponse(socket) ?? undefined,
    replyOf: req => (req as WithReply)[kReply],
    close () {
      const last = takeAll()
      closed = true
      return last
    },
    findUnseen () {
      const unseen: TakenResponse[] = []
      for (const connection of connections.all()) {
        const res = currentResponse(connection.socket)
        // @fastify/websocket gives its upgraded sockets a response.
        const isUnseen = res != null && !hasEntry(res) && (res.req as { upgrade?: boolean }).upgrade !== true
        if (isUnseen) unseen.push({ res, connection })
      }
      return unseen
    }
  }

  function takeAll (): TakenResponse[] {
    const taken: TakenResponse[] = []
    if (closed) return taken
    for (const connection of connections.all()) {
      const res = takeFrom(connection)
      if (res !== undefined) taken.push({ res, connection })
    }
    return taken
  }

  function takeFrom (connection: Connection): ServerResponse | undefined {
    if (closed || !connection.usesFastPath) return undefined
    const res = currentResponse(connection.socket)
    // The counted request may be over, and another request may have followed on this connection.
    if (res == null || hasEntry(res)) return undefined
    connection.usesFastPath = false
    count--
    return res
  }
}
