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
import type { FastifyRequest } from 'fastify'
import type { Connection, Connections } from './connections'

export interface Passing {
  /** How many have passed, those included that are on their way and have not been called. */
  readonly count: number
  /** A request has come. @returns whether it passes; where not, it needs an entry */
  admit(req: IncomingMessage, res: ServerResponse): boolean
  /** Fastify has a request for it now. @returns whether it is one that passes */
  introduce(request: FastifyRequest, res: ServerResponse): boolean
  /** Those who are on their way; they do not pass any more. */
  call(): ServerResponse[]
  /** The one who is on its way on this connection. */
  callFrom(connection: Connection | undefined): ServerResponse | undefined
  /** What Fastify knows of one that has been called. */
  requestOf(res: ServerResponse): FastifyRequest | null
  /** From now on nobody passes. @returns the last who were called */
  end(): ServerResponse[]
}

/** Where an answer that passes keeps Fastify's request. */
const key = Symbol('fastify-shutdown.request')

type Passer = ServerResponse & { [key]?: FastifyRequest }

/** @param isEntered whether this answer has an entry in the table */
export function createPassing (connections: Connections, isEntered: (res: ServerResponse) => boolean): Passing {
  let count = 0
  let over = false

  return {
    get count () { return count },
    admit (req, res) {
      if (over || req.httpVersionMajor > 1 || currentOf(req.socket) !== res) return false
      const connection = connections.of(req.socket)
      if (connection === undefined) return false
      connection.passing = true
      count++
      return true
    },
    introduce (request, res) {
      if (connections.of(request.raw.socket)?.passing !== true) return false
      ;(res as Passer)[key] = request
      return true
    },
    call,
    callFrom,
    requestOf: res => (res as Passer)[key] ?? null,
    end () {
      const last = call()
      over = true
      return last
    }
  }

  function call (): ServerResponse[] {
    return over ? [] : connections.all().flatMap(connection => callFrom(connection) ?? [])
  }

  function callFrom (connection: Connection | undefined): ServerResponse | undefined {
    if (over || connection?.passing !== true) return undefined
    const res = currentOf(connection.socket)
    // The one that passed is over, and another may have come behind it.
    if (res == null || isEntered(res)) return undefined
    connection.passing = false
    count--
    return res
  }
}

/** The answer that is on its way; Node's own, and not public. Where it is missing, nobody passes, and all have entries. */
export function currentOf (socket: Socket | undefined): ServerResponse | null | undefined {
  return (socket as Socket & { _httpMessage?: ServerResponse | null } | undefined)?._httpMessage
}
