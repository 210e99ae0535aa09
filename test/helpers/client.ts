/**
 * The clients of the tests. `connect` opens a connection (TCP or TLS) on which a test sends and receives exact bytes,
 * `openSession` opens an HTTP/2 session, and `fetchOnce` sends one request on a new connection. All of them wait for
 * events; the only timer here makes a test fail.
 */
import http2 from 'node:http2'
import net from 'node:net'
import type { AddressInfo } from 'node:net'
import tls from 'node:tls'
import type { FastifyInstance } from 'fastify'

/** Longest time to wait for the server, in milliseconds. A test fails after it. */
const patience = 10_000

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** A response that may have been interrupted. */
export interface Ended extends Answer {
  /** Whether the body ended normally. */
  readonly whole: boolean
}

/** A response whose head has arrived. */
export interface Begun {
  readonly status: number
  /** Resolves when the response is over, normally or not. It has no time limit. */
  readonly rest: Promise<Ended>
}

export interface Client {
  readonly socket: net.Socket
  /** Received characters that `answer()` and `begin()` have not consumed yet. */
  readonly rest: string
  send(bytes: string | Buffer): void
  /** Resolves to the next complete response. @param head whether the request was a HEAD, whose response has no body */
  answer(head?: boolean): Promise<Answer>
  /** Resolves as soon as the head of the next response has arrived. */
  begin(): Promise<Begun>
  /** Resolves to everything received so far, as soon as it contains these characters. */
  until(characters: string): Promise<string>
  /** How the connection closed: `end` after a FIN of the server, `reset` after a socket error. */
  readonly over: Promise<'end' | 'reset'>
}

export interface ConnectOptions {
  /** @default '127.0.0.1' */
  readonly host?: string
  /** The certificate to trust. The connection uses TLS if it is given. */
  readonly ca?: Buffer
  /** Keep our side open after the server has ended its side. @default false */
  readonly allowHalfOpen?: boolean
}

/** Opens a connection. @returns once connected; rejects if the server refuses */
export async function connect (target: number | FastifyInstance, options: string | ConnectOptions = {}): Promise<Client> {
  const { host = '127.0.0.1', ca, allowHalfOpen = false } = typeof options === 'string' ? { host: options } : options
  const address = { port: typeof target === 'number' ? target : portOf(target), host, family: 4, noDelay: true, allowHalfOpen }
  const socket = ca === undefined ? net.connect(address) : tls.connect({ ...address, ca, ALPNProtocols: ['http/1.1'] })
  let rest = ''
  let ended = false
  const watchers = new Set<() => void>()
  const look = (): void => { for (const watcher of [...watchers]) watcher() }
  let how: 'end' | 'reset' = 'end'
  const over = new Promise<'end' | 'reset'>(resolve => {
    socket.once('close', () => {
      ended = true
      resolve(how)
      look()
    })
  })
  await new Promise<void>((resolve, reject) => {
    socket.once(ca === undefined ? 'connect' : 'secureConnect', resolve)
    socket.once('error', reject)
  })
  socket.on('error', () => { how = 'reset' })
  socket.setEncoding('latin1').on('data', (data: string) => {
    rest += data
    look()
  })

  return {
    socket,
    get rest () { return rest },
    send: bytes => { socket.write(bytes) },
    answer: head => take(() => {
      const parsed = parse(rest, ended, head === true)
      if (parsed?.whole !== true) return undefined
      rest = rest.slice(parsed.length)
      return parsed.answer
    }, 'a complete response'),
    begin: () => take(() => {
      const status = /^HTTP\/1\.\d (\d+)[^]*?\r\n\r\n/.exec(rest)?.[1]
      return status === undefined ? undefined : { status: Number(status), rest: remainder() }
    }, 'the head of a response'),
    until: characters => take(() => rest.includes(characters) ? rest : undefined, JSON.stringify(characters)),
    over
  }

  /** Resolves to the response whose head has arrived, when it is over. */
  function remainder (): Promise<Ended> {
    return take(() => {
      const parsed = parse(rest, ended, false)
      if (parsed === null) return undefined
      rest = rest.slice(parsed.length)
      return { ...parsed.answer, whole: parsed.whole }
    }, 'the end of a response', null)
  }

  function take<T> (attempt: () => T | undefined, what: string, limit: number | null = patience): Promise<T> {
    return new Promise((resolve, reject) => {
      const watcher = (): void => {
        const value = attempt()
        if (value === undefined && !ended) return
        watchers.delete(watcher)
        if (timer !== null) clearTimeout(timer)
        if (value === undefined) reject(new Error(`The connection ended (${how}) before ${what} came, after ${JSON.stringify(rest.slice(0, 300))}`))
        else resolve(value)
      }
      const fail = (): void => { reject(new Error(`${what} did not come, only ${JSON.stringify(rest.slice(0, 300))}`)) }
      const timer = limit === null ? null : setTimeout(fail, limit)
      watchers.add(watcher)
      watcher()
    })
  }
}

export interface Http2Answer extends Answer {
  readonly trailers: Readonly<Record<string, string>>
  /** `null` if the stream ended normally, else the code of the error or `rst` and the code of the RST_STREAM frame. */
  readonly error: string | null
}

export interface Http2Session {
  readonly session: http2.ClientHttp2Session
  /** Resolves to the code of the first GOAWAY frame. */
  readonly goaway: Promise<number>
  readonly closed: Promise<void>
  /** Resolves when the response is over, normally or not. */
  get(path: string): Promise<Http2Answer>
  /** Opens a stream whose errors are ignored, because most tests reset it on purpose. */
  request(headers: http2.OutgoingHttpHeaders, options?: http2.ClientSessionRequestOptions): http2.ClientHttp2Stream
}

export interface SessionOptions extends http2.ClientSessionOptions {
  /** The certificate to trust. The session uses TLS if it is given. */
  readonly ca?: Buffer
}

/** Opens an HTTP/2 session, which ignores its errors. @returns at once, because Node sends requests once it is connected */
export function openSession (target: number | FastifyInstance, { ca, ...options }: SessionOptions = {}): Http2Session {
  const port = typeof target === 'number' ? target : portOf(target)
  const session = ca === undefined
    ? http2.connect(`http://127.0.0.1:${port}`, options)
    : http2.connect(`https://localhost:${port}`, { ...options, ca, family: 4 } as http2.SecureClientSessionOptions)
  session.on('error', () => {})
  return {
    session,
    goaway: new Promise(resolve => { session.once('goaway', resolve) }),
    closed: new Promise(resolve => { session.once('close', resolve) }),
    request: (headers, options) => session.request(headers, options).on('error', () => {}),
    get: path => new Promise(resolve => {
      const answer = { status: 0, headers: {} as Record<string, string>, trailers: {} as Record<string, string>, body: '', error: null as string | null }
      let stream: http2.ClientHttp2Stream
      try {
        stream = session.request({ ':path': path })
      } catch (error) {
        return resolve({ ...answer, error: (error as NodeJS.ErrnoException).code ?? '' })
      }
      stream.once('response', headers => { Object.assign(answer, { status: headers[':status'], headers }) })
      stream.once('trailers', trailers => { answer.trailers = trailers as Record<string, string> })
      stream.setEncoding('latin1').on('data', chunk => { answer.body += chunk })
      stream.once('error', error => { answer.error = (error as NodeJS.ErrnoException).code ?? '' })
      stream.once('close', () => {
        // Node 24 gives a stream that the client itself does not send a code, too.
        if (stream.rstCode !== 0 && answer.error !== 'ERR_HTTP2_GOAWAY_SESSION') answer.error = `rst ${stream.rstCode}`
        resolve(answer)
      })
    })
  }
}

/** The bytes of a request without a body. */
export function get (path: string, headers: Readonly<Record<string, string>> = {}, method = 'GET'): string {
  return `${method} ${path} HTTP/1.1\r\nHost: test\r\n${lines(headers)}\r\n`
}

/** The bytes of a request with a body. */
export function post (path: string, body: string, headers: Readonly<Record<string, string>> = {}): string {
  return get(path, { 'Content-Type': 'text/plain', 'Content-Length': String(Buffer.byteLength(body)), ...headers }, 'POST') + body
}

/**
 * Resets the connection, as a client that crashes does. After our side has ended, Node can no longer reset it: Node
 * reports EINVAL, keeps the socket, and never exits (Node 20: `TCPWrap::Reset` marks the socket as closed before libuv
 * refuses).
 */
export function abort (socket: net.Socket): void {
  if (socket.writable) socket.resetAndDestroy()
  else socket.destroy()
}

/** Sends one request on a new connection, and closes the connection after the response. */
export async function fetchOnce (target: number | FastifyInstance, bytes: string): Promise<Answer> {
  const client = await connect(target)
  client.send(bytes)
  const answer = await client.answer()
  client.socket.destroy()
  return answer
}

export function portOf (app: FastifyInstance): number {
  return (app.server.address() as AddressInfo).port
}

/**
 * Polls once per turn of the event loop. For values without an event of their own: a counter, a socket's `bytesRead`.
 */
export async function eventually (holds: () => boolean, what: () => unknown): Promise<void> {
  const began = performance.now()
  while (!holds()) {
    if (performance.now() - began > patience) throw new Error(`It never came to be: ${JSON.stringify(what())}`)
    await new Promise(resolve => { setImmediate(resolve) })
  }
}

function lines (headers: Readonly<Record<string, string>>): string {
  return Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join('')
}

interface Parsed {
  readonly answer: Answer
  /** Whether the body is complete. */
  readonly whole: boolean
  /** Number of characters of the response. */
  readonly length: number
}

/** @returns `null` if the response is not complete and more can come */
function parse (text: string, ended: boolean, head: boolean): Parsed | null {
  const start = text.indexOf('\r\n\r\n') + 4
  if (start < 4) return null
  const [first = '', ...fields] = text.slice(0, start - 4).split('\r\n')
  const status = Number(first.split(' ')[1])
  const headers = Object.fromEntries(fields.map(field => [field.slice(0, field.indexOf(':')).toLowerCase(), field.slice(field.indexOf(':') + 1).trim()]))
  const { body, length, whole } = parseBody()
  return whole || ended ? { answer: { status, headers, body }, whole, length: start + length } : null

  function parseBody (): { readonly body: string, readonly length: number, readonly whole: boolean } {
    if (head || status < 200 || status === 204 || status === 304) return { body: '', length: 0, whole: true }
    const rest = text.slice(start)
    if (headers['transfer-encoding'] === 'chunked') return parseChunks(rest)
    const expected = headers['content-length']
    if (expected === undefined) return { body: rest, length: rest.length, whole: ended }
    const body = rest.slice(0, Number(expected))
    return { body, length: body.length, whole: body.length === Number(expected) }
  }
}

function parseChunks (text: string): { readonly body: string, readonly length: number, readonly whole: boolean } {
  let body = ''
  for (let at = 0; ;) {
    const line = text.indexOf('\r\n', at)
    const size = line === -1 ? NaN : parseInt(text.slice(at, line), 16)
    // Incomplete, or other bytes were written into the middle of the chunks, so that the response is never complete.
    if (Number.isNaN(size)) return { body, length: text.length, whole: false }
    if (size === 0) {
      const end = text.indexOf('\r\n\r\n', line)
      return { body, length: end === -1 ? text.length : end + 4, whole: end !== -1 }
    }
    body += text.slice(line + 2, line + 2 + size)
    if (text.length < line + 2 + size + 2) return { body, length: text.length, whole: false }
    at = line + 2 + size + 2
  }
}
