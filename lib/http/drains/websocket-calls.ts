/**
 * The calls on one WebSocket: messages from the client that get an answer. No protocol is assumed, so the messages are
 * counted: each message of the server answers one message of the client.
 */
import { now } from '../../util/time'

/** The calls on one WebSocket. */
export interface Calls {
  /** Returns the milliseconds since the last message in either direction; `Infinity` if there was none. */
  silence(): number
  /**
   * Returns whether there was no message in either direction for `ms` milliseconds, and no answer is expected. If
   * earlier messages were answered, an answer is expected for the usual time; otherwise for twice `ms`, because a
   * subscription gets no answer.
   */
  isQuiet(ms: number): boolean
  /** Returns whether a message has arrived whose answer may still be sent. */
  awaitsAnswer(): boolean
  /**
   * Returns whether the client has just sent a message or got an answer. Its next message may already be sent, and a
   * close frame would lose it.
   */
  mayCall(): boolean
}

/** Calls, with the methods that count messages. */
export interface CountedCalls extends Calls {
  /** Counts a message of the client. */
  receive(): void
  /** Counts a message of the server. */
  send(): void
}

/** Longest time between a message and its answer, in milliseconds. A later answer is not waited for. */
export const answerTime = 2_000

/**
 * Longest pause of the server in its answers, in milliseconds, if the count may not be exact: the server also sends
 * messages that answer nothing, or one message is answered by several (a batch of tRPC).
 */
export const inexactTime = 300

/** Least number of answers after which the count may be exact. */
const leastAnswers = 2

/**
 * Messages within this time are parts of one answer, in milliseconds. A later message that answers nothing is pushed.
 */
const sameAnswerTime = 20

/** A client that pauses for this time makes no further call, in milliseconds. */
const pauseTime = 100

/** Creates the calls of a WebSocket that has just been opened. */
export function createCalls (): CountedCalls {
  let receivedAt = -Infinity
  let sentAt = -Infinity
  let answeredAt = -Infinity
  let pushedAt = -Infinity
  let unanswered = 0
  let answers = 0
  const silence = (): number => now() - Math.max(receivedAt, sentAt)

  return {
    silence,
    isQuiet (ms) {
      const expected = unanswered === 0 ? 0 : isExact() ? answerTime : 2 * ms
      return silence() >= ms && now() - receivedAt >= expected
    },
    awaitsAnswer () {
      if (now() - receivedAt >= answerTime) return false
      return unanswered > 0 || (!isExact() && silence() < inexactTime)
    },
    mayCall: () => now() - Math.max(receivedAt, answeredAt) < pauseTime,
    receive () {
      const at = now()
      // Earlier messages get no answer.
      if (at - receivedAt >= answerTime) unanswered = 0
      unanswered++
      receivedAt = at
    },
    send () {
      const at = now()
      if (unanswered > 0) {
        unanswered--
        answers++
        answeredAt = at
      } else if (at - Math.max(receivedAt, sentAt) > sameAnswerTime) {
        pushedAt = at
      }
      sentAt = at
    }
  }

  /** Returns whether each message of the client has got one answer so far, and the server has sent nothing else. */
  function isExact (): boolean {
    return answers >= leastAnswers && now() - pushedAt >= answerTime
  }
}
