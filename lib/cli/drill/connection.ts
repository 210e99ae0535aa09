/** A client connection on a plain socket, which shows exactly how the server ends an exchange. */
import net from 'node:net'
import { after, now } from '../../util/time'
import { receiveAnswer, type AnswerHead } from './answer'
import { CannotRunError } from './cannot-run'
import type { Ending } from './classes'

/** A numeric address and a port. */
export interface Address {
  /** An IP address, without brackets. */
  readonly host: string
  readonly port: number
}

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

/** A client connection. */
export interface Connection {
  /** The address of this end. */
  readonly localPort: number
  /** Answers that it has carried. */
  readonly answers: number
  /** Whether it can carry another request now. */
  readonly usable: boolean
  /** Sends a request. The connection must be usable. */
  send (request: DrillRequest, host: string, keepAlive: boolean): Exchange
  close (): void
}

/** Errors of this machine, and not of the server. */
const ownErrors = new Set(
  ['EADDRNOTAVAIL', 'EMFILE', 'ENFILE', 'ENOBUFS', 'ENETUNREACH', 'EHOSTUNREACH', 'EACCES', 'EPERM']
)

/** Opens a socket. @returns the socket, or the ending of a request that finds no connection */
export function openSocket (address: Address, abandoned?: AbortSignal): Promise<net.Socket | Ending> {
  return new Promise((resolve, reject) => {
    const began = now()
    // Half open: a write after the server's FIN shows whether the server has read the request.
    const socket = net.connect({ ...address, allowHalfOpen: true, noDelay: true, autoSelectFamily: false })
    const abandon = (): void => {
      socket.destroy()
      resolve({ kind: 'pending', silentMs: now() - began })
    }
    abandoned?.addEventListener('abort', abandon, { once: true })
    const settle = (): void => {
      abandoned?.removeEventListener('abort', abandon)
      socket.removeAllListeners('error')
      socket.on('error', () => {})
    }
    socket.once('error', (error: NodeJS.ErrnoException) => {
      settle()
      if (error.code === 'ECONNREFUSED') resolve({ kind: 'refused' })
      else if (ownErrors.has(error.code ?? '')) {
        reject(
          new CannotRunError(`no connection to port ${address.port}: ${error.code}`)
        )
      } else resolve({ kind: 'reset', began: false })
    })
    socket.once('connect', () => {
      settle()
      // A connection to a closed port of this machine can meet itself: both ends have the same port.
      if (socket.localPort === socket.remotePort && socket.localAddress === socket.remoteAddress) {
        socket.resetAndDestroy()
        resolve({ kind: 'refused' })
      } else resolve(socket)
    })
    if (abandoned?.aborted) abandon()
  })
}

/** Opens a socket in at most `ms` milliseconds. */
export async function openSocketWithin (ms: number, address: Address): Promise<net.Socket | Ending> {
  const controller = new AbortController()
  const cancel = after(ms, () => controller.abort())
  try {
    return await openSocket(address, controller.signal)
  } finally {
    cancel()
  }
}

/** Makes a connection of an open socket. */
export function createConnection (socket: net.Socket): Connection {
  const localPort = socket.localPort ?? 0
  let answers = 0
  let busy = false
  let usableUntil = Infinity
  // An idle connection that the server closes is no failure.
  socket.on('end', () => { if (!busy) socket.destroy() })
  socket.on('data', () => { if (!busy) socket.destroy() })

  return {
    localPort,
    get answers () { return answers },
    get usable () { return !busy && !socket.destroyed && socket.readable && now() < usableUntil },
    close () { socket.destroy() },
    send (request, host, keepAlive) {
      busy = true
      const exchange = startExchange(socket, request, formatRequest(request, host, keepAlive))
      return {
        get head () { return exchange.head },
        get body () { return exchange.body },
        abandon: () => { exchange.abandon() },
        ended: exchange.ended.then(ending => {
          busy = false
          answers++
          if (ending.kind !== 'answer' || !keepAlive || exchange.head?.keepAlive === false || exchange.extra) {
            socket.destroy()
          }
          usableUntil = now() + idleTime(exchange.head)
          return ending
        })
      }
    }
  }
}

/**
 * Returns the milliseconds that an idle connection may be reused: four fifths of the server's `Keep-Alive: timeout`.
 */
function idleTime (head: AnswerHead | null): number {
  const seconds = /timeout=(\d+)/i.exec(head?.headers.get('keep-alive') ?? '')?.[1]
  return seconds === undefined ? Infinity : Number(seconds) * 800
}

function formatRequest ({ method, path, headers = {}, body }: DrillRequest, host: string, keepAlive: boolean): string {
  const all = new Map(Object.entries({
    host,
    connection: keepAlive ? 'keep-alive' : 'close',
    'user-agent': 'fastify-shutdown drill',
    accept: '*/*',
    ...body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }
  }))
  for (const [name, value] of Object.entries(headers)) all.set(name.toLowerCase(), value)
  return `${method} ${path} HTTP/1.1\r\n${[...all].map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${body ?? ''}`
}

function startExchange (
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
    // A write fails if RST has arrived. The server's system sends it if the request met a closed socket. Behind a part
    // of an answer it is a reset: libuv reports data and RST that arrive together as an end.
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
