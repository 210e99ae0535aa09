/** The ways in which a client can reach a server, behind one small face. */
import dns from 'node:dns'
import { readFileSync } from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import Fastify, { type FastifyInstance } from 'fastify'
import gracefulShutdown from '../../lib/index'

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, unknown>>
  readonly body: string
  /** Whether the body came to its proper end. */
  readonly whole: boolean
}

export interface Client {
  get(path: string): Promise<Answer>
  /** Send a request, resolve when its answer has begun; `rest` is the answer once it is over. Reads nothing while `paused`. */
  begin(path: string): Promise<{ readonly status: number, readonly rest: Promise<Answer>, abort(): void }>
  close(): void
}

export interface Transport {
  readonly name: string
  readonly http2: boolean
  start(options?: gracefulShutdown.Options, routes?: (app: FastifyInstance) => void): Promise<{ readonly app: FastifyInstance, readonly port: number }>
  connect(port: number): Client
}

const fixture = (name: string): Buffer => readFileSync(join(__dirname, 'fixtures', name))
export const tls = { key: fixture('key.pem'), cert: fixture('cert.pem') }

const http1 = (secure: boolean, host = '127.0.0.1') => (port: number): Client => {
  const agent = secure ? new https.Agent({ keepAlive: true, ca: tls.cert }) : new http.Agent({ keepAlive: true })
  const send = (path: string): { request: http.ClientRequest, answered: Promise<http.IncomingMessage> } => {
    const request = (secure ? https : http).request({ agent, port, host: secure ? 'localhost' : host, family: 4, path })
    request.end()
    return { request, answered: new Promise((resolve, reject) => request.once('response', resolve).once('error', reject)) }
  }
  const rest = (res: http.IncomingMessage): Promise<Answer> => new Promise(resolve => {
    let body = ''
    res.setEncoding('latin1').on('data', chunk => { body += chunk }).on('error', () => {})
    res.once('close', () => resolve({ status: res.statusCode!, headers: res.headers, body, whole: res.complete }))
  })
  return {
    get: async path => await rest(await send(path).answered),
    async begin (path) {
      const { request, answered } = send(path)
      const res = await answered
      request.on('error', () => {})
      return { status: res.statusCode!, rest: rest(res), abort: () => { request.destroy() } }
    },
    close: () => agent.destroy()
  }
}

const h2 = (secure: boolean) => (port: number): Client => {
  const session = http2.connect(`${secure ? 'https://localhost' : 'http://127.0.0.1'}:${port}`, { ca: tls.cert, ...(secure && { family: 4 }) } as http2.SecureClientSessionOptions)
  session.on('error', () => {})
  const send = (path: string): { stream: http2.ClientHttp2Stream, answered: Promise<http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader> } => {
    const stream = session.request({ ':path': path })
    return { stream, answered: new Promise((resolve, reject) => stream.once('response', resolve).once('error', reject).once('close', () => reject(new Error('closed without an answer')))) }
  }
  const rest = (stream: http2.ClientHttp2Stream, headers: http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader): Promise<Answer> => new Promise(resolve => {
    let body = ''
    let ended = false
    stream.setEncoding('latin1').on('data', chunk => { body += chunk }).once('end', () => { ended = true }).on('error', () => {})
    stream.once('close', () => resolve({ status: headers[':status']!, headers, body, whole: ended && stream.rstCode === 0 }))
  })
  return {
    async get (path) {
      const { stream, answered } = send(path)
      return await rest(stream, await answered)
    },
    async begin (path) {
      const { stream, answered } = send(path)
      const headers = await answered
      return { status: headers[':status']!, rest: rest(stream, headers), abort: () => stream.close(http2.constants.NGHTTP2_CANCEL) }
    },
    close: () => session.destroy()
  }
}

const starter = (serverOptions: object, host = '127.0.0.1'): Transport['start'] => async (options = {}, routes = () => {}) => {
  const app = Fastify({ ...serverOptions, forceCloseConnections: false }) as unknown as FastifyInstance
  await app.register(gracefulShutdown, { signals: false, ...options })
  routes(app)
  await app.listen({ port: 0, host })
  return { app, port: (app.server.address() as AddressInfo).port }
}

/** Fastify binds a second server where 'localhost' has a second address. Here it always has one: 127.0.0.2. */
async function startTwice (...args: Parameters<Transport['start']>): ReturnType<Transport['start']> {
  const { lookup } = dns
  dns.lookup = ((host: string, ...rest: [{ all?: boolean }, (...answer: unknown[]) => void]) => {
    if (host !== 'localhost') return lookup(host, ...rest as unknown as [() => void])
    const addresses = ['127.0.0.1', '127.0.0.2'].map(address => ({ address, family: 4 }))
    const answer = rest.at(-1) as (...answer: unknown[]) => void
    process.nextTick(() => { rest[0].all === true ? answer(null, addresses) : answer(null, '127.0.0.1', 4) })
  }) as typeof dns.lookup
  try {
    return await starter({}, 'localhost')(...args)
  } finally {
    dns.lookup = lookup
  }
}

export const dualStack: Transport = { name: 'the second server of a dual-stack listen', http2: false, start: startTwice, connect: http1(false, '127.0.0.2') }

export const transports: readonly Transport[] = [
  { name: 'HTTP/1', http2: false, start: starter({}), connect: http1(false) },
  { name: 'HTTPS', http2: false, start: starter({ https: tls }), connect: http1(true) },
  { name: 'h2c', http2: true, start: starter({ http2: true }), connect: h2(false) },
  { name: 'h2 with TLS', http2: true, start: starter({ http2: true, https: { ...tls, allowHTTP1: true } }), connect: h2(true) },
  { name: 'HTTP/1 beside h2 (ALPN)', http2: false, start: starter({ http2: true, https: { ...tls, allowHTTP1: true } }), connect: http1(true) },
  dualStack
]
