/** Sends one request on an open socket, and detects exactly how the server ends the exchange. */
import type net from 'node:net'
import { now } from '../../util/time'
import { receiveAnswer, type AnswerHead } from './answer'
import type { Ending } from './classes'

/** A request, as a plan has it. */
export interface DrillRequest {
  readonly method: string
  /** With its query. */
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

/** An exchange of one request and its answer. */
export interface Exchange {
  /** Never rejects. */
  readonly ended: Promise<Ending>
  /** The head of the answer, as soon as it is complete. */
  readonly head: AnswerHead | null
  /** The first megabyte of the answer's body. */
  readonly body: string
  /** Ends it as `pending`, and closes the connection. */
  abandon (): void
}

/** Returns the bytes of a request, as text. @param host the header `Host` */
export function formatRequest (
  { method, path, headers = {}, body }: DrillRequest, host: string, keepAlive: boolean
): string {
  const all = new Map(Object.entries({
    host,
    connection: keepAlive ? 'keep-alive' : 'close',
    'user-agent': 'fastify-shutdown drill',
    accept: '*/*',
    ...body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }
  }))
  for (const [name, value] of Object.entries(headers)) all.set(name.toLowerCase(), value)
  const lines = [...all].map(([name, value]) => `${name}: ${value}\r\n`).join('')
  return `${method} ${path} HTTP/1.1\r\n${lines}\r\n${body ?? ''}`
}

/** Sends the bytes of a request, and receives its answer. `extra`: bytes came after the end of the answer. */
export function startExchange (
  socket: net.Socket, request: DrillRequest, bytes: string
): Exchange & { readonly extra: boolean } {
  const answer = receiveAnswer(request.method)
  let lastByteAt = now()
  let finish!: (ending: Ending) => void
  const ended = new Promise<Ending>(resolve => { finish = resolve })
  const began = (): boolean => answer.state !== 'waiting'
  const end = (ending: Ending): void => {
    socket.off('data', onData).off('end', onEnd).off('error', onError).off('close', onClose)
    finish(ending)
  }
  /** @returns whether the exchange is over */
  const look = (): boolean => {
    if (answer.state === 'invalid') end({ kind: 'invalid' })
    else if (answer.state === 'complete' || answer.state === 'upgraded') {
      const { status, headers } = answer.head!
      end({ kind: 'answer', status, retryAfter: headers.has('retry-after') })
    } else return false
    return true
  }
  const onData = (chunk: Buffer): void => {
    lastByteAt = now()
    answer.push(chunk)
    look()
  }
  const onEnd = (): void => {
    answer.end()
    if (look()) return
    // A write fails if RST has arrived. The server's system sends RST if the request met a closed socket. After a part
    // of an answer it is a reset, because libuv reports data and RST that arrive together as an end.
    socket.off('error', onError)
    socket.write('\r\n', error => {
      const isReset = error != null
      end(isReset && began() ? { kind: 'reset', began: true } : { kind: 'closed', began: began(), unread: isReset })
    })
  }
  const onError = (): void => end({ kind: 'reset', began: began() })
  const onClose = (): void => end({ kind: 'reset', began: began() })
  socket.on('data', onData).on('end', onEnd).on('error', onError).on('close', onClose)
  socket.write(bytes)
  return {
    ended,
    get head () { return answer.head },
    get body () { return answer.body },
    get extra () { return answer.rest.length > 0 },
    abandon () {
      end({ kind: 'pending', silentMs: now() - lastByteAt })
      socket.destroy()
    }
  }
}
