/**
 * A client over raw TCP: a test says exactly which bytes go out, and sees exactly which come back. Everything here waits
 * for events; the only times in it are those after which a test has failed.
 */
import net from 'node:net'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'

/** What a test waits for has to come in this time, in milliseconds. */
const patience = 5_000

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

export interface Client {
  readonly socket: net.Socket
  /** Whatever came and was not taken by `answer()`. */
  readonly rest: string
  send(bytes: string | Buffer): void
  /** The next whole answer. @param head whether it answers a HEAD, and has no body whatever its headers say */
  answer(head?: boolean): Promise<Answer>
  /** Resolves to what came so far once it holds these characters. */
  until(characters: string): Promise<string>
  /** The connection is over: `end` where the server ended it in order, `reset` where it did not. */
  readonly over: Promise<'end' | 'reset'>
}

/** @returns once connected; rejects where nobody listens */
export async function connect (target: number | FastifyInstance, host = '127.0.0.1'): Promise<Client> {
  const socket = net.connect({ port: typeof target === 'number' ? target : portOf(target), host, noDelay: true })
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
    socket.once('connect', resolve)
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
      if (parsed === null) return undefined
      rest = rest.slice(parsed.length)
      return parsed.answer
    }, 'a whole answer'),
    until: characters => take(() => rest.includes(characters) ? rest : undefined, JSON.stringify(characters)),
    over
  }

  function take<T> (attempt: () => T | undefined, what: string): Promise<T> {
    return new Promise((resolve, reject) => {
      const watcher = (): void => {
        const value = attempt()
        if (value === undefined && !ended) return
        watchers.delete(watcher)
        clearTimeout(timer)
        if (value === undefined) reject(new Error(`The connection ended (${how}) before ${what} came, after ${JSON.stringify(rest.slice(0, 300))}`))
        else resolve(value)
      }
      const timer = setTimeout(() => { reject(new Error(`${what} did not come, only ${JSON.stringify(rest.slice(0, 300))}`)) }, patience)
      watchers.add(watcher)
      watcher()
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
 * Leave with a reset, as a client that crashes. Where our end is on its way already Node cannot reset any more: it says EINVAL, keeps
 * the socket, and spins for ever when the process ends (Node 20: TCPWrap::Reset marks it as closed before libuv refuses).
 */
export function abort (socket: net.Socket): void {
  if (socket.writable) socket.resetAndDestroy()
  else socket.destroy()
}

/** One request on a connection of its own. */
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

/** Look again each turn of the event loop, for what has no event of its own: a counter, a socket's `bytesRead`. */
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

function parse (text: string, ended: boolean, head: boolean): { readonly answer: Answer, readonly length: number } | null {
  const start = text.indexOf('\r\n\r\n') + 4
  if (start < 4) return null
  const [first = '', ...fields] = text.slice(0, start - 4).split('\r\n')
  const status = Number(first.split(' ')[1])
  const headers = Object.fromEntries(fields.map(field => [field.slice(0, field.indexOf(':')).toLowerCase(), field.slice(field.indexOf(':') + 1).trim()]))
  const whole = (body: string, length: number): { readonly answer: Answer, readonly length: number } => ({ answer: { status, headers, body }, length: start + length })
  if (head || status < 200 || status === 204 || status === 304) return whole('', 0)
  const length = headers['content-length']
  if (length !== undefined) return text.length - start < Number(length) ? null : whole(text.slice(start, start + Number(length)), Number(length))
  if (headers['transfer-encoding'] === 'chunked') return chunked(text.slice(start), whole)
  return ended ? whole(text.slice(start), text.length - start) : null
}

function chunked<T> (text: string, whole: (body: string, length: number) => T): T | null {
  let body = ''
  for (let at = 0; ;) {
    const line = text.indexOf('\r\n', at)
    if (line === -1) return null
    const size = parseInt(text.slice(at, line), 16)
    // Something else was written into the middle of it: it will never be whole.
    if (Number.isNaN(size)) return null
    if (size === 0) {
      const end = text.indexOf('\r\n\r\n', line)
      return end === -1 ? null : whole(body, end + 4)
    }
    if (text.length < line + 2 + size + 2) return null
    body += text.slice(line + 2, line + 2 + size)
    at = line + 2 + size + 2
  }
}
