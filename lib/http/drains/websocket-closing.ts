/**
 * Chooses the moment at which each WebSocket is closed.
 *
 * In lame-duck, the quiet WebSockets are closed evenly, so that their clients do not all connect again at the same
 * time. When draining begins, the others are closed. A call in flight is answered first. After its close frame a server
 * may send nothing (RFC 6455, section 5.5.1), so a call that arrives later is lost. If the close frame is sent directly
 * after an answer, the client reads both before it makes the next call.
 */
import type { Socket } from 'node:net'
import { every, now, ticks, turn } from '../../util/time'
import type { Activity } from './websocket-activity'
import { answerTime, inexactTime } from './websocket-calls'

/** An open WebSocket. */
export interface OpenWebSocket {
  readonly socket: Socket
  /** The time at which it was opened, by the clock of `util/time.ts`. */
  readonly since: number
  readonly activity: Activity
}

/** The moments at which WebSockets are closed. */
export interface WebSocketClosing<T extends OpenWebSocket> {
  /**
   * Closes the quiet WebSockets evenly over `ms` milliseconds, those with the oldest message first. A WebSocket is
   * quiet if no answer is expected, and there was no message in either direction for a quarter of `ms`, from 300
   * milliseconds to one second. A WebSocket that becomes quiet later is closed later. A WebSocket that is opened later
   * stays open until draining begins, because its client has just connected.
   */
  enterLameDuck(ms: number): void
  /** Closes all WebSockets. A WebSocket with a call in flight is closed after the answer. */
  beginDraining(): void
  /** Closes the WebSockets that are still busy after two seconds, or half of `ms`. @returns a function that stops it */
  closeInTime(ms: number): () => void
  /** The app is about to send a message. @returns whether the message is held back for a moment */
  onSend(webSocket: T): boolean
}

/** Interval between two closes in lame-duck, in milliseconds. */
const spreadStep = 50

/** Longest time without a message until a WebSocket is quiet, in milliseconds. */
const quietTime = 1_000

/** Most messages that a library sends in a row, each in the callback of the last (graphql-ws: the result, its end). */
const mostFollowing = 3

/** How many WebSockets are closed in one turn of the event loop. */
const burst = 250

/** How often the WebSockets that are still open are checked while draining, in milliseconds. */
const checkStep = 25

/**
 * Creates a `WebSocketClosing`.
 *
 * @param findOpen returns the WebSockets that we have not closed
 * @param close closes one, or does nothing if that is not possible yet
 */
export function createWebSocketClosing<T extends OpenWebSocket> (
  findOpen: () => T[], close: (webSocket: T) => void
): WebSocketClosing<T> {
  let draining = false
  let waitsForAnswers = true
  let stopSpreading = (): void => {}

  return {
    enterLameDuck (ms) {
      const began = now()
      const quietAfter = Math.max(inexactTime, Math.min(quietTime, ms / 4))
      // One step earlier, so that the last close comes before the time is up.
      const end = began + ms - spreadStep
      let due = 0
      stopSpreading = every(spreadStep, () => {
        const quiet = findQuiet(began, quietAfter)
        due += quiet.length / Math.max(1, (end - now()) / spreadStep)
        const share = Math.round(due)
        due -= share
        void closeAll(quiet.slice(0, share), ({ activity }) => activity.calls.isQuiet(quietAfter))
      })
    },
    beginDraining () {
      draining = true
      stopSpreading()
      void closeAll(findOpen(), mayClose)
    },
    closeInTime (ms) {
      const until = now() + Math.min(answerTime, ms / 2)
      return every(checkStep, () => {
        waitsForAnswers = now() < until
        void closeAll(findOpen().filter(mayClose), mayClose)
      })
    },
    onSend (webSocket) {
      if (draining) void closeAfterAnswer(webSocket)
      return draining
    }
  }

  /**
   * Closes a WebSocket directly after an answer, and after the messages that the app sends in the same moment. The
   * socket writes all of them at once. Otherwise the client may read the answer first and make the next call.
   */
  async function closeAfterAnswer (webSocket: T): Promise<void> {
    const { socket, activity } = webSocket
    socket.cork()
    await ticks(mostFollowing)
    if (!waitsForAnswers || !activity.calls.awaitsAnswer()) close(webSocket)
    socket.uncork()
  }

  function findQuiet (openedBefore: number, quietAfter: number): T[] {
    return findOpen()
      .filter(({ since, activity }) => since < openedBefore && activity.calls.isQuiet(quietAfter))
      .map(webSocket => ({ webSocket, silence: webSocket.activity.calls.silence() }))
      .sort((one, other) => other.silence - one.silence)
      .map(({ webSocket }) => webSocket)
  }

  /** Closes WebSockets one turn of the event loop later, because the kernel's buffers may contain a message. */
  async function closeAll (webSockets: readonly T[], isDue: (webSocket: T) => boolean): Promise<void> {
    for (let index = 0; index < webSockets.length; index += burst) {
      await turn()
      webSockets.slice(index, index + burst).filter(isDue).forEach(close)
    }
  }

  function mayClose ({ activity }: T): boolean {
    const { calls } = activity
    return !waitsForAnswers || !(calls.mayCall() || calls.awaitsAnswer())
  }
}
