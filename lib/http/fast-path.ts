/**
 * Requests that pass. While the server runs, nobody has to look at an ordinary one: it is counted when it comes, and from then
 * on its connection knows it, since Node keeps the answer that is on its way under `socket._httpMessage`, from the
 * request's head until the answer is flushed. So it costs a number and a mark, and nothing has to be told when it is over.
 *
 * Whoever wants to know more calls those who are on their way: each gets an entry in the table (`inflight.ts`), and is no
 * passer-by any more. What Node does not keep there never was one: an answer that waits behind another, HTTP/2, inject.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyReply } from 'fastify'
import type { Connection, Connections } from './connections'

/** A response that passed, and the connection that it goes out by. */
export interface Called {
  readonly res: ServerResponse
  readonly connection: Connection
}

export interface Passing {
  /** How many have passed, those included that are on their way and have not been called. */
  readonly count: number
  /** A request has come. @returns whether it passes; where not, it needs an entry */
  admit(connection: Connection | undefined, req: IncomingMessage, res: ServerResponse): connection is Connection
  /** Fastify has a request and a reply for it now. @returns whether it is one that passes */
  introduce(reply: FastifyReply): boolean
  /** Those who are on their way; they do not pass any more. */
  call(): Called[]
  /** The one who is on its way on this connection. */
  callFrom(connection: Connection): ServerResponse | undefined
  /** The answer that is on its way on this connection, whether it passes or not. */
  current(connection: Connection): ServerResponse | undefined
  /** What Fastify knows of one that has passed, or passes. */
  replyOf(req: IncomingMessage): FastifyReply | undefined
  /** From now on nobody passes. @returns the last who were called */
  end(): Called[]
}

/** Where the request of Node keeps Fastify's reply, which leads to all the others: Node's response knows its request. */
const key = Symbol('fastify-shutdown.reply')

type Passer = IncomingMessage & { [key]?: FastifyReply }

/** @param isEntered whether this answer has an entry in the table */
export function createPassing (connections: Connections, isEntered: (res: ServerResponse) => boolean): Passing {
  let count = 0
  let over = false

  return {
    get count () { return count },
    admit (connection, req, res): connection is Connection {
      // An answer that waits behind another has no socket yet.
      if (over || connection === undefined || req.httpVersionMajor > 1 || res.socket === null) return false
      connection.passing = true
      count++
      return true
    },
    introduce (reply) {
      if (connections.of(reply.raw.socket)?.passing !== true) return false
      ;(reply.request.raw as Passer)[key] = reply
      return true
    },
    call,
    callFrom,
    current: ({ socket }) => currentOf(socket) ?? undefined,
    replyOf: req => (req as Passer)[key],
    end () {
      const last = call()
      over = true
      return last
    }
  }

  function call (): Called[] {
    if (over) return []
    return connections.all().flatMap(connection => {
      const res = callFrom(connection)
      return res === undefined ? [] : { res, connection }
    })
  }

  function callFrom (connection: Connection): ServerResponse | undefined {
    if (over || !connection.passing) return undefined
    const res = currentOf(connection.socket)
    // The one that passed is over, and another may have come behind it.
    if (res == null || isEntered(res)) return undefined
    connection.passing = false
    count--
    return res
  }
}

/** The answer that is on its way; Node's own, and not public. Where it is missing, nobody passes, and all have entries. */
function currentOf (socket: Socket): ServerResponse | null | undefined {
  return (socket as Socket & { _httpMessage?: ServerResponse | null })._httpMessage
}
