/**
 * An HTTP/2 client that decides when its bytes go out and when it reads. All frames since the last `flush()` leave in one
 * write. A client that does not read does not know of a GOAWAY.
 */
import http2 from 'node:http2'
import net from 'node:net'
import { Duplex } from 'node:stream'
import tls from 'node:tls'
import { turn } from '../../lib/util/time'
import { createDeferred } from '../../lib/util/deferred'

const typeOfGoaway = 7

export interface Result {
  /** 0 where no answer came. */
  readonly status: number
  readonly retryAfter: string | undefined
  readonly body: string
  /** `null` where the stream came to its proper end. */
  readonly error: string | null
}

export interface CorkedSession {
  /** Open a stream. Its frames stay here until `flush()`. */
  get(path: string): Promise<Result>
  /** Open a stream and reset it with CANCEL. */
  open(path: string): { readonly result: Promise<Result>, cancel(): void }
  /** Send all frames in one write. */
  flush(): Promise<void>
  /** Keep what comes from Node's session, until `resumeReading()`. */
  pauseReading(): void
  resumeReading(): void
  /** Send all frames, and from now on each as it comes. */
  uncork(): Promise<void>
  /** The code of the first GOAWAY. */
  readonly goaway: Promise<number>
  /** A GOAWAY has come, read or not. */
  readonly goawayCame: Promise<void>
  readonly closed: Promise<unknown>
  destroy(): void
}

/** What a client sees of a request that was not processed: REFUSED_STREAM, or an error of a session that is over. */
const repeatable = ['rst 7', 'ERR_HTTP2_GOAWAY_SESSION', 'ERR_HTTP2_INVALID_SESSION']

/** The server did not process it, and its client may repeat it elsewhere (RFC 9113, section 8.7). */
export function mayRepeat ({ status, error }: Result): boolean {
  return status === 0 && error !== null && repeatable.includes(error)
}

/** @returns once connected; the preface waits for `flush()`, too */
export async function connectCorked (port: number, ca?: Buffer): Promise<CorkedSession> {
  const socket = ca === undefined
    ? net.connect(port, '127.0.0.1')
    : tls.connect({ port, host: '127.0.0.1', servername: 'localhost', ca, ALPNProtocols: ['h2'] })
  await new Promise<void>((resolve, reject) => {
    socket.once(ca === undefined ? 'connect' : 'secureConnect', resolve)
    socket.once('error', reject)
  })
  socket.setNoDelay(true)
  let corked: Buffer[] | null = []
  const pipe = new Duplex({
    read () {},
    write (chunk: Buffer, _encoding, callback) {
      if (corked === null) socket.write(chunk)
      else corked.push(chunk)
      callback()
    },
    final (callback) {
      socket.end()
      callback()
    },
    destroy (error, callback) {
      socket.destroy()
      callback(error)
    }
  })
  const goawayCame = createDeferred<void>()
  let unread: (Buffer | null)[] | null = null
  let frames = Buffer.alloc(0)
  socket.on('data', (chunk: Buffer) => {
    frames = Buffer.concat([frames, chunk])
    // A frame is three bytes of length, one of type, five more, and as many as its length says (RFC 9113, section 4.1).
    for (; frames.length >= 9; frames = frames.subarray(9 + frames.readUIntBE(0, 3))) {
      if (frames.length < 9 + frames.readUIntBE(0, 3)) break
      if (frames[3] === typeOfGoaway) goawayCame.resolve()
    }
    receive(chunk)
  })
  socket.on('error', () => {})
  // After a reset, too: Node's session reads what has come before.
  socket.once('close', () => receive(null))
  pipe.on('error', () => {})

  const session = http2.connect('http://localhost', { createConnection: () => pipe })
  session.on('error', () => {})
  return {
    get: path => open(path).result,
    open,
    flush,
    pauseReading () {
      unread = []
    },
    resumeReading () {
      const chunks = unread ?? []
      unread = null
      for (const chunk of chunks) receive(chunk)
    },
    async uncork () {
      await flush()
      corked = null
    },
    goawayCame: goawayCame.promise,
    goaway: new Promise(resolve => { session.once('goaway', resolve) }),
    closed: new Promise<void>(resolve => { socket.once('close', () => resolve()) }),
    destroy: () => { session.destroy() }
  }

  function receive (chunk: Buffer | null): void {
    if (unread === null) pipe.push(chunk)
    else unread.push(chunk)
  }

  async function flush (): Promise<void> {
    // Node writes frames at the end of a turn.
    await turn()
    socket.write(Buffer.concat(corked ?? []))
    corked &&= []
  }

  function open (path: string): { readonly result: Promise<Result>, cancel(): void } {
    const answer = { status: 0, retryAfter: undefined as string | undefined, body: '' }
    let stream: http2.ClientHttp2Stream
    try {
      stream = session.request({ ':path': path })
    } catch (error) {
      return { result: Promise.resolve({ ...answer, error: (error as NodeJS.ErrnoException).code ?? '' }), cancel () {} }
    }
    stream.once('response', headers => {
      Object.assign(answer, { status: headers[':status'], retryAfter: headers['retry-after'] })
    })
    stream.setEncoding('utf8').on('data', chunk => { answer.body += chunk })
    let error: string | null = null
    stream.once('error', ({ code }: NodeJS.ErrnoException) => { if (code !== 'ERR_HTTP2_STREAM_ERROR') error = code ?? '' })
    const result = new Promise<Result>(resolve => {
      stream.once('close', () => {
        if (stream.rstCode !== 0) error ??= `rst ${stream.rstCode}`
        resolve({ ...answer, error })
      })
    })
    return {
      result,
      cancel: () => stream.close(http2.constants.NGHTTP2_CANCEL)
    }
  }
}
