/**
 * Requests that pass. While the server runs, nobody has to look at an ordinary one: it is counted when it comes, and from then
 * on its connection knows it, since Node keeps the answer that is on its way under `socket._httpMessage`, from the
 * request's head until the answer is flushed. So it costs a number and a mark, and nothing has to be told when it is over.
 *
 * Whoever wants to know more calls those who are on their way: each gets an entry in the table (`inflight.ts`), and is no
 * passer-by any more. What Node does not keep there never was one: an answer that waits behind another, HTTP/2, inject.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import { kReply } from '../symbols'
import { currentResponse } from '../util/node-internals'
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
  admit(connection: Connection | undefined, res: ServerResponse): connection is Connection
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

/** Node's request keeps Fastify's reply, which leads to all the others: Node's response knows its request. */
type Passer = IncomingMessage & { [kReply]?: FastifyReply }

/** @param isEntered whether this answer has an entry in the table */
export function createPassing (connections: Connections, isEntered: (res: ServerResponse) => boolean): Passing {
  let count = 0
  let over = false

  return {
    get count () { return count },
    admit (connection, res): connection is Connection {
      // A pipelined answer waits behind another one. HTTP/2 has no current answer.
      if (over || connection === undefined || currentResponse(connection.socket) !== res) return false
      connection.passing = true
      count++
      return true
    },
    introduce (reply) {
      if (connections.of(reply.raw.socket)?.passing !== true) return false
      ;(reply.request.raw as Passer)[kReply] = reply
      return true
    },
    call,
    callFrom,
    current: ({ socket }) => currentResponse(socket) ?? undefined,
    replyOf: req => (req as Passer)[kReply],
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
    const res = currentResponse(connection.socket)
    // The one that passed is over, and another may have come behind it.
    if (res == null || isEntered(res)) return undefined
    connection.passing = false
    count--
    return res
  }
}
