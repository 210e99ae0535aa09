/** Starts an app on each transport (HTTP/1, TLS, HTTP/2, dual-stack), with a client of the same three methods for each. */
import dns from 'node:dns'
import { readFileSync } from 'node:fs'
import http2 from 'node:http2'
import { join } from 'node:path'
import Fastify, { type FastifyInstance } from 'fastify'
import gracefulShutdown from '../../lib/index'
import { connect, get, openSession, portOf, type Client as Connection, type Ended } from './client'

export interface Client {
  get(path: string): Promise<Ended>
  /** Sends a request, and resolves when its response has begun. `rest` is the complete response. */
  begin(path: string): Promise<{ readonly status: number, readonly rest: Promise<Ended>, abort(): void }>
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

/** Keeps its connections alive: a request uses an idle connection if there is one. */
const http1 = (secure: boolean, host = '127.0.0.1') => (port: number): Client => {
  const open = new Set<Connection>()
  const idle: Connection[] = []
  const take = async (): Promise<Connection> => {
    const used = idle.pop()
    if (used !== undefined && open.has(used)) return used
    const connection = await connect(port, secure ? { host: 'localhost', ca: tls.cert } : { host })
    open.add(connection)
    void connection.over.then(() => open.delete(connection))
    return connection
  }
  const begin: Client['begin'] = async path => {
    const connection = await take()
    connection.send(get(path))
    const { status, rest } = await connection.begin()
    return {
      status,
      rest: rest.then(response => {
        if (response.whole && response.headers['connection'] !== 'close') idle.push(connection)
        return response
      }),
      abort: () => { connection.socket.destroy() }
    }
  }
  return {
    begin,
    get: async path => await (await begin(path)).rest,
    close: () => { for (const { socket } of open) socket.destroy() }
  }
}

const h2 = (secure: boolean) => (port: number): Client => {
  const { session, request } = openSession(port, secure ? { ca: tls.cert } : {})
  const begin: Client['begin'] = async path => {
    const stream = request({ ':path': path })
    const headers = await new Promise<http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader>((resolve, reject) => {
      stream.once('response', resolve).once('error', reject).once('close', () => reject(new Error('The stream closed without a response')))
    })
    const status = headers[':status']!
    let body = ''
    let ended = false
    stream.setEncoding('latin1').on('data', chunk => { body += chunk }).once('end', () => { ended = true })
    const rest = new Promise<Ended>(resolve => {
      stream.once('close', () => resolve({ status, headers: headers as Record<string, string>, body, whole: ended && stream.rstCode === 0 }))
    })
    return { status, rest, abort: () => stream.close(http2.constants.NGHTTP2_CANCEL) }
  }
  return {
    begin,
    get: async path => await (await begin(path)).rest,
    close: () => session.destroy()
  }
}

const starter = (serverOptions: object, host = '127.0.0.1'): Transport['start'] => async (options = {}, routes = () => {}) => {
  const app = Fastify({ ...serverOptions, forceCloseConnections: false }) as unknown as FastifyInstance
  await app.register(gracefulShutdown, { signals: false, ...options })
  routes(app)
  await app.listen({ port: 0, host })
  return { app, port: portOf(app) }
}

/** Fastify binds a second server if 'localhost' has a second address. Here it always has one: 127.0.0.2. */
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
