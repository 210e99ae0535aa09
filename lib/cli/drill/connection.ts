/** A client connection, which carries one request after the other. */
import type net from 'node:net'
import { now } from '../../util/time'
import type { AnswerHead } from './answer'
import { formatRequest, startExchange, type DrillRequest, type Exchange } from './exchange'

/** A client connection. */
export interface Connection {
  /** The port of this end. */
  readonly localPort: number
  /** Answers that it has carried. */
  readonly answers: number
  /** Whether it can carry another request now. */
  readonly usable: boolean
  /** Sends a request. The connection must be usable. @param host the header `Host` */
  send (request: DrillRequest, host: string, keepAlive: boolean): Exchange
  close (): void
}

/** Turns an open socket into a connection. */
export function createConnection (socket: net.Socket): Connection {
  const localPort = socket.localPort ?? 0
  let answers = 0
  let busy = false
  let usableUntil = Infinity
  // An idle connection that the server closes is no failure.
  socket.on('end', () => { if (!busy) socket.destroy() })
  socket.on('data', () => { if (!busy) socket.destroy() })

  return {
    localPort,
    get answers () { return answers },
    get usable () { return !busy && !socket.destroyed && socket.readable && now() < usableUntil },
    close () { socket.destroy() },
    send (request, host, keepAlive) {
      busy = true
      const exchange = startExchange(socket, request, formatRequest(request, host, keepAlive))
      return {
        get head () { return exchange.head },
        get body () { return exchange.body },
        abandon: () => { exchange.abandon() },
        ended: exchange.ended.then(ending => {
          busy = false
          answers++
          if (ending.kind !== 'answer' || !keepAlive || exchange.head?.keepAlive === false || exchange.extra) {
            socket.destroy()
          }
          usableUntil = now() + idleTime(exchange.head)
          return ending
        })
      }
    }
  }
}

/**
 * Returns the milliseconds that an idle connection may be reused: four fifths of the server's `Keep-Alive: timeout`.
 */
function idleTime (head: AnswerHead | null): number {
  const seconds = /timeout=(\d+)/i.exec(head?.headers.get('keep-alive') ?? '')?.[1]
  return seconds === undefined ? Infinity : Number(seconds) * 800
}
