/**
 * Ends HTTP/2 sessions gracefully: GOAWAY is sent, the open streams finish, then the connection closes (RFC 9113,
 * section 6.8).
 *
 * `session.close()` alone is not safe in Node 20. Node sends GOAWAY one turn of the event loop later, or at the end of
 * the read if the call is made inside of a 'stream' event. If a stream begins in between, Node resets it while nghttp2
 * still parses it (`onSessionHeaders` in lib/internal/http2/core.js), and nghttp2 then writes to freed memory:
 * `malloc(): mismatching next->prev_size`. This happens in Node 20.20, and not in 22, 24 and 26.
 *
 * So a session ends in three turns of the event loop. In the first turn, the requests in the kernel's buffers are read
 * and served. In the second turn, GOAWAY is queued, and Node still treats the session as open. When GOAWAY is sent,
 * nghttp2 ignores new streams, and `close()` is safe. No step runs inside of an event of the session.
 */
import type { ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import type { OnProblem } from '../../lifecycle/problems'
import { sleep, turn } from '../../util/time'

/** NGHTTP2_REFUSED_STREAM, without loading node:http2 for servers that do not use it. */
const refusedStream = 7

/** How often a session is checked if its GOAWAY waits behind other data, in milliseconds. */
const step = 10

/**
 * Ends HTTP/2 sessions. Resolves two turns later, when no session accepts new streams. It does not wait for the open
 * streams, or for a session whose client does not read. Never rejects.
 *
 * @param isBeingRead returns whether the client may still be receiving an answer. Such a session ends later. A client
 *   with TLS replies to the end of the connection at once, and the server then closes it, so the client would lose what
 *   it has not received.
 * @param onProblem called for each session that cannot be ended: the app may have replaced its methods
 */
export async function endSessions (
  sessions: readonly ServerHttp2Session[], isBeingRead: (session: ServerHttp2Session) => boolean, onProblem: OnProblem
): Promise<void> {
  const beingRead = sessions.filter(isBeingRead)
  for (const session of beingRead) void untilRead(session).then(async () => await endRead([session], onProblem))
  await endRead(sessions.filter(session => !beingRead.includes(session)), onProblem)
}

/**
 * Resolves when the client has received everything that was sent: it acknowledges a PING that is sent behind it. Never
 * rejects.
 */
async function untilRead (session: ServerHttp2Session): Promise<void> {
  try {
    await new Promise<void>(resolve => { if (!session.ping(() => resolve())) resolve() })
  } catch {
    // The session is over.
  }
}

async function endRead (sessions: readonly ServerHttp2Session[], onProblem: OnProblem): Promise<void> {
  await turn()
  const announced = sessions.filter(isOpen).filter(session => attempt(() => announce(session), onProblem))
  await turn()
  void closeAll(announced, onProblem)
}

async function closeAll (sessions: readonly ServerHttp2Session[], onProblem: OnProblem): Promise<void> {
  for (let left = sessions.filter(isOpen); left.length > 0; left = left.filter(isOpen)) {
    left = left.filter(session => attempt(() => { if (isAnnounced(session)) session.close() }, onProblem))
    // The client does not read, and Node writes no further frame until the frame before is sent.
    if (left.some(isOpen)) await sleep(step)
  }
}

/** @returns whether `fn` has not thrown */
function attempt (fn: () => void, onProblem: OnProblem): boolean {
  try {
    fn()
    return true
  } catch (error) {
    onProblem('An HTTP/2 session could not be ended', error)
    return false
  }
}

function isOpen ({ closed, destroyed }: ServerHttp2Session): boolean {
  return !closed && !destroyed
}

/**
 * Queues GOAWAY, which contains the id of the last stream that is served. The client repeats later streams on another
 * connection (RFC 9113, section 8.7), so no handler may receive them. For that, Node's own listener is removed, which
 * passes streams to the server.
 */
function announce (session: ServerHttp2Session): void {
  session.removeAllListeners('stream')
  session.on('stream', refuseStream)
  session.goaway()
}

function refuseStream (stream: ServerHttp2Stream): void {
  // Node emits the reset as an error of the stream.
  stream.on('error', () => {})
  void turn().then(() => stream.close(refusedStream))
}

/** Returns whether GOAWAY is sent: no frame is queued. Data that waits for flow control is not in this queue. */
function isAnnounced (session: ServerHttp2Session): boolean {
  return !((session.state.outboundQueueSize ?? 0) > 0)
}
