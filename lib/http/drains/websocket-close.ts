/**
 * Closes one WebSocket: sends the last message of the app, if there is one, and close code 1001, "going away" (RFC
 * 6455, section 7.4.1).
 *
 * A WebSocket of ws is closed by its own `close()`. For another implementation the close frame is written between two
 * frames.
 */
import type { Socket } from 'node:net'
import type { OnProblem } from '../../lifecycle/problems'
import { isInsideMessage, webSocketOf, type WebSocketLike } from '../../util/node-internals'
import { afterMessage } from '../../util/replaced-methods'
import type { Frames } from './websocket-frames'

const goingAway = 1001
const reason = 'server shutdown'
/**
 * The bytes: FIN and opcode 8, a payload of two bytes, the close code. A server does not mask its frames (RFC 6455,
 * sections 5.1 and 5.5.1).
 */
const closeFrame = Buffer.from([0x88, 0x02, goingAway >> 8, goingAway & 0xff])

/** Closes WebSockets. */
export interface WebSocketClose {
  /**
   * Closes a WebSocket.
   *
   * @returns whether it is closed. This is not possible during the handshake. If the implementation is not ws, it is
   *   also not possible inside of a message
   */
  close(socket: Socket, frames: Frames): boolean
}

/**
 * Creates a `WebSocketClose`.
 *
 * @param message the last message, sent before the close frame
 * @param onProblem called if a method of the WebSocket throws: the app may have replaced it
 */
export function createWebSocketClose (
  message: string | Buffer | undefined, onProblem: OnProblem
): WebSocketClose {
  return {
    close (socket, frames) {
      const webSocket = webSocketOf(socket)
      if (webSocket !== undefined) {
        closeOnce(webSocket)
        return true
      }
      if (!frames.between || !socket.writable) return false
      socket.write(closeFrame)
      return true
    }
  }

  function closeOnce (webSocket: WebSocketLike): void {
    if (webSocket.readyState !== 1) return // It is already closing.
    // If a message is sent in fragments, ours would become a part of it, and its rest would be lost.
    if (isInsideMessage(webSocket)) return afterMessage(webSocket, () => closeOnce(webSocket))
    attempt(() => { if (message !== undefined) webSocket.send(message) })
    attempt(() => webSocket.close(goingAway, reason))
  }

  function attempt (fn: () => void): void {
    try {
      fn()
    } catch (error) {
      onProblem('A WebSocket could not be closed', error)
    }
  }
}
