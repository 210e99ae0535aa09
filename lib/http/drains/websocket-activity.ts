/**
 * Follows the messages of one WebSocket, to close it at a moment at which no answer is lost.
 *
 * A message from the client may be a call that gets an answer. No protocol is assumed, so the messages are counted: each
 * message of the server answers one message of the client. Ping and pong frames do not count.
 *
 * With ws, the messages are events. Another implementation only shows the bytes that it reads and writes; they are
 * compared when the state is read.
 */
import type { Socket } from 'node:net'
import { webSocketOf } from '../../util/node-internals'
import { watchSends, watchWrites } from '../../util/replaced-methods'
import { now, sleep, ticks } from '../../util/time'
import { followFrames, type Frames } from './websocket-frames'

/** The messages of one WebSocket. */
export interface Activity {
  /** The frames of the server. With ws they end with the handshake. */
  readonly frames: Frames
  /** Returns the milliseconds since the last message in either direction; `Infinity` if there was none. */
  silence(): number
  /** Returns whether a message has arrived whose answer may still come. */
  awaitsAnswer(): boolean
  /**
   * Returns whether the client has just sent a message or got an answer. Its next message may be on its way, and would
   * be lost.
   */
  mayCall(): boolean
  /** Resolves when the last message is written, with the messages that the app sends right behind it. */
  untilWritten(): Promise<void>
}

/** Longest time between a message and its answer, in milliseconds. A later answer is not waited for. */
export const answerTime = 2_000

/**
 * The same, if the count may not be exact: the server also sends messages that answer nothing, or one message is answered
 * by several (a batch of tRPC).
 */
const inexactTime = 300

/** The count may be exact after this number of answers. */
const fewAnswers = 2

/** Messages in this time are parts of one answer, in milliseconds. A later one that answers nothing is a push. */
const sameAnswer = 10

/** A client that pauses for this time makes no further call, in milliseconds. */
const pauseTime = 100

/** Longest time until a message is compressed, encrypted and written, in milliseconds. */
const writeTime = 100

/** How often this is checked, in milliseconds. */
const writeStep = 2

/** Most messages that each wait for the callback of the one before (graphql-ws: the result, then its end). */
const mostFollowing = 3

/**
 * Follows a WebSocket from its handshake.
 *
 * @param onSend called after the handshake, and for each message that the app sends
 */
export function followActivity (socket: Socket, onSend: () => void): Activity {
  const frames = followFrames()
  let receivedAt = -Infinity
  let sentAt = -Infinity
  let answeredAt = -Infinity
  let pushedAt = -Infinity
  let unanswered = 0
  let answers = 0
  let bytesRead = socket.bytesRead
  const stopWatching = watchWrites(socket, chunk => {
    const wasOpening = frames.opening
    frames.push(chunk)
    if (!wasOpening) return onWrite()
    // After the handshake, ws creates the WebSocket in the same call.
    if (!frames.opening) process.nextTick(onOpen)
  })

  return {
    frames,
    silence () {
      readBytes()
      return now() - Math.max(receivedAt, sentAt)
    },
    awaitsAnswer () {
      readBytes()
      const at = now()
      const isExact = answers >= fewAnswers && at - pushedAt >= answerTime
      return at - receivedAt < (unanswered > 0 ? answerTime : isExact ? 0 : inexactTime)
    },
    mayCall () {
      readBytes()
      return now() - Math.max(receivedAt, answeredAt) < pauseTime
    },
    async untilWritten () {
      const isBuffered = (): boolean => (webSocketOf(socket)?.bufferedAmount ?? 0) > 0
      for (const until = now() + writeTime; isBuffered() && now() < until;) await sleep(writeStep)
      await ticks(mostFollowing)
    }
  }

  function onOpen (): void {
    const webSocket = webSocketOf(socket)
    if (webSocket !== undefined) {
      stopWatching()
      // Before the listeners of the app, which may answer at once.
      webSocket.prependListener('message', onReceived)
      watchSends(webSocket, onSent)
    }
    bytesRead = socket.bytesRead
    onSend()
  }

  function onWrite (): void {
    readBytes()
    onSent()
  }

  /** Counts the bytes that have arrived as one message. */
  function readBytes (): void {
    if (webSocketOf(socket) !== undefined || socket.bytesRead === bytesRead) return
    bytesRead = socket.bytesRead
    onReceived()
  }

  function onReceived (): void {
    const at = now()
    // Earlier messages get no answer.
    if (at - receivedAt > answerTime) unanswered = 0
    unanswered++
    receivedAt = at
  }

  function onSent (): void {
    const at = now()
    if (unanswered > 0) {
      unanswered--
      answers++
      answeredAt = at
    } else if (at - Math.max(receivedAt, sentAt) > sameAnswer) {
      pushedAt = at
    }
    sentAt = at
    onSend()
  }
}
