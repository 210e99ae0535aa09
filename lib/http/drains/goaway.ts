/**
 * Ends HTTP/2 sessions gracefully: GOAWAY goes out, the open streams finish, then the connection closes (RFC 9113,
 * section 6.8).
 *
 * `session.close()` alone is not safe in Node 20. Node sends GOAWAY one turn of the event loop later, or at the end of the
 * read if the call is made inside of a 'stream' event. Node resets a stream that begins in between while nghttp2 still
 * parses it (`onSessionHeaders` in lib/internal/http2/core.js), and nghttp2 then writes to freed memory:
 * `malloc(): mismatching next->prev_size`. Seen in Node 20.20, not in 22, 24 and 26.
 *
 * So a session ends in three turns. First, the requests in the kernel's buffers are read, and served. Then GOAWAY is
 * queued, while the session is still open for Node. When GOAWAY is sent, nghttp2 itself ignores new streams, and `close()`
 * is safe. No step runs inside of an event of the session.
 */
import type { ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import { sleep, turn } from '../../util/time'

/** NGHTTP2_REFUSED_STREAM, without loading node:http2 for servers that do not use it. */
const refusedStream = 7

/** How often a session is looked at whose GOAWAY waits behind other data, in milliseconds. */
const step = 10

/**
 * Resolves two turns later, when no session takes a new stream any more. It does not wait for the open streams, nor for
 * a session whose peer does not read. Never rejects.
 */
export async function endSessions (sessions: readonly ServerHttp2Session[]): Promise<void> {
  await turn()
  const open = sessions.filter(isOpen)
  for (const session of open) announce(session)
  await turn()
  void closeAll(open)
}

async function closeAll (sessions: readonly ServerHttp2Session[]): Promise<void> {
  for (let left = sessions.filter(isOpen); left.length > 0; left = left.filter(isOpen)) {
    for (const session of left) if (isAnnounced(session)) session.close()
    // Its peer does not read, and Node writes no further frame until the one before is out.
    if (left.some(isOpen)) await sleep(step)
  }
}

function isOpen ({ closed, destroyed }: ServerHttp2Session): boolean {
  return !closed && !destroyed
}

/**
 * GOAWAY names the last stream that is served. The client repeats later ones on another connection (RFC 9113, section
 * 8.7), so no handler may see them: Node's own listener, which passes streams to the server, is removed.
 */
function announce (session: ServerHttp2Session): void {
  session.removeAllListeners('stream')
  session.on('stream', refuse)
  session.goaway()
}

function refuse (stream: ServerHttp2Stream): void {
  // Node emits the reset as an error of the stream.
  stream.on('error', () => {})
  void turn().then(() => stream.close(refusedStream))
}

/** No frame waits in the queue. Data that flow control holds back does not count. */
function isAnnounced (session: ServerHttp2Session): boolean {
  return !((session.state.outboundQueueSize ?? 0) > 0)
}
