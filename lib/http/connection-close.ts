/**
 * `Connection: close`, said to HTTP/1 clients on the answers that they get anyway (RFC 9112, section 9.6).
 *
 * Node closes the connection after an answer that says so, and throws away what was pipelined behind it. So only the last
 * answer on a connection says it; when one more comes, it takes the word over from the one before.
 */
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { kLastAnswer } from '../symbols'
import { destroyWhenFlushed } from '../util/replaced-methods'
import type { Carrier } from './response'

export interface Farewell {
  /** This answer is the last one on its connection, as far as we know. */
  say(carrier: Carrier): void
  /** It is over: end a connection whose answer had its headers out before, or said `keep-alive` itself. */
  keep(carrier: Carrier): void
}

/** The last answer promised on a connection, and whether it would have kept it alive. */
interface Promised {
  readonly res: ServerResponse
  readonly keepAlive: boolean
}

type Told = Socket & { [kLastAnswer]?: Promised | undefined }

/** @param linger the connection will be ended, maybe while its sender still sends: let that be read to its end */
export function createFarewell (linger: (carrier: Carrier) => void): Farewell {
  return {
    say (carrier) {
      const { res } = carrier
      const socket: Told | null = carrier.socket
      // HTTP/2 has GOAWAY, for all of a session.
      if (socket === null || res.req.httpVersionMajor > 1) return
      linger(carrier)
      const before = socket[kLastAnswer]
      if (before !== undefined && !before.res.headersSent) before.res.shouldKeepAlive = before.keepAlive
      socket[kLastAnswer] = { res, keepAlive: res.shouldKeepAlive }
      if (!res.headersSent) res.shouldKeepAlive = false
    },
    keep (carrier) {
      const socket: Told | null = carrier.socket
      if (socket?.[kLastAnswer]?.res !== carrier.res) return
      socket[kLastAnswer] = undefined
      destroyWhenFlushed(socket)
    }
  }
}
