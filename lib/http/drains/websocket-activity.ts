/**
 * Follows the messages of one WebSocket, to close it at a moment at which no answer is lost. Ping and pong frames are
 * not messages.
 *
 * With ws, the messages are events. Another implementation only shows the bytes that it reads and writes; they are
 * compared when the state is read.
 */
import type { Socket } from 'node:net'
import { webSocketOf } from '../../util/node-internals'
import { watchSends, watchWrites } from '../../util/replaced-methods'
import { createCalls, type Calls } from './websocket-calls'
import { followFrames, type Frames } from './websocket-frames'

/** The messages of one WebSocket. */
export interface Activity {
  /** The frames of the server. With ws they end with the handshake. */
  readonly frames: Frames
  /** The calls of the client until now. */
  readonly calls: Calls
}

/**
 * Follows a WebSocket from its handshake.
 *
 * @param onSend called after the handshake, and before each message that the app sends. Returns whether the message is
 *   held back
 */
export function followActivity (socket: Socket, onSend: () => boolean): Activity {
  const frames = followFrames()
  const calls = createCalls()
  /** `null`: the messages are events. */
  let bytesRead: number | null = socket.bytesRead
  const stopWatching = watchWrites(socket, chunk => {
    const wasOpening = frames.opening
    frames.push(chunk)
    // After the handshake, ws creates the WebSocket in the same call.
    if (wasOpening && !frames.opening) process.nextTick(onOpen)
    else if (!wasOpening) onWrite()
  })

  return {
    frames,
    get calls () {
      readBytes()
      return calls
    }
  }

  function onOpen (): void {
    const webSocket = webSocketOf(socket)
    bytesRead = webSocket === undefined ? socket.bytesRead : null
    if (webSocket !== undefined) {
      stopWatching()
      // Before the listeners of the app, which may answer at once.
      webSocket.prependListener('message', calls.receive)
      watchSends(webSocket, onMessage)
    }
    onSend()
  }

  function onWrite (): void {
    readBytes()
    onMessage()
  }

  /** Counts the bytes that have arrived as one message. */
  function readBytes (): void {
    if (bytesRead === null || socket.bytesRead === bytesRead) return
    bytesRead = socket.bytesRead
    calls.receive()
  }

  function onMessage (): boolean {
    calls.send()
    return onSend()
  }
}
