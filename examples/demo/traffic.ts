/**
 * The clients. They behave as real clients do: they keep connections alive, and open a new one after `Connection:
 * close`. No client retries a request, so that no loss is hidden.
 */
import { randomUUID } from 'node:crypto'
import { once, setMaxListeners } from 'node:events'
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { createConnection, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import WebSocket from 'ws'
import type { Sent, StreamSeen, WebSocketSeen } from './verdict'

export interface Traffic {
  readonly sent: readonly Sent[]
  readonly streams: readonly StreamSeen[]
  readonly webSockets: readonly WebSocketSeen[]
  readonly acknowledged: readonly string[]
  readonly accepted: readonly string[]
  readonly inFlight: number
  /** Resolves when the last of the clients has stopped. */
  readonly over: Promise<void>
  /** From now on, every request counts as sent during the shutdown, also those in flight. */
  shutdownBegins(): void
  /** The clients with an open, unused connection send their first request now. */
  lateComers(): void
  /** The service is gone: the clients stop. */
  end(): void
}

interface Answer {
  readonly status: number
  readonly body: string
}

export interface TrafficOptions {
  readonly port: number
  readonly onStreamEnd: (number: number, seen: StreamSeen) => void
  readonly onWebSocketEnd: (number: number, seen: WebSocketSeen) => void
  readonly onSlowEnd: (number: number, body: string) => void
}

/** Enough clients of each kind to have some requests in flight at any time. */
const clients = { readers: 6, fast: 4, orders: 4, slow: 3, streams: 3, webSockets: 2, jobs: 1, lateComers: 3 }

export function startTraffic ({ port, onStreamEnd, onWebSocketEnd, onSlowEnd }: TrafficOptions): Traffic {
  const sent: Sent[] = []
  const streams: StreamSeen[] = []
  const webSockets: WebSocketSeen[] = []
  const acknowledged: string[] = []
  const accepted: string[] = []
  const agents: Agent[] = []
  const ended = new AbortController()
  let inFlight = 0
  let shuttingDown = false
  const balanced = { ready: true }
  let releaseLate = (): void => {}
  const late = new Promise<void>(resolve => { releaseLate = resolve })
  setMaxListeners(0, ended.signal)

  const over = Promise.all([
    ...times(clients.readers, reader),
    ...times(clients.fast, index => stubborn('GET', '/fast', 250 * index)),
    ...times(clients.orders, index => orders(80 * index)),
    ...times(clients.jobs, jobs),
    ...times(clients.slow, slow),
    ...times(clients.streams, stream),
    ...times(clients.webSockets, webSocket),
    ...times(clients.lateComers, lateComer),
    balancer()
  ]).then(() => { for (const agent of agents) agent.destroy() })

  return {
    sent,
    streams,
    webSockets,
    acknowledged,
    accepted,
    get inFlight () { return inFlight },
    over,
    shutdownBegins () { shuttingDown = true },
    lateComers: () => releaseLate(),
    end () {
      ended.abort()
      releaseLate()
    }
  }

  /** Reads readiness as a load balancer does. The clients behind it go to another replica when it is false. */
  async function balancer (): Promise<void> {
    const agent = keepAlive()
    while (!ended.signal.aborted) {
      const answer = await send('GET', '/status', { agent })
      balanced.ready = answer?.status === 200 && JSON.parse(answer.body).ready === true
      await pause(200)
    }
  }

  /** Behind the balancer, many small requests. */
  async function reader (): Promise<void> {
    const agent = keepAlive()
    while (balanced.ready && !ended.signal.aborted) {
      await send('GET', '/', { agent })
      await pause(10 + Math.random() * 40)
    }
  }

  /**
   * A client that is not behind the balancer and ignores readiness. Each starts at another time, so that they do not
   * end together.
   */
  async function stubborn (method: string, path: string, delay: number, next: (answer: Answer | null, id: string) => void = () => {}): Promise<void> {
    const agent = keepAlive()
    await pause(delay)
    while (!ended.signal.aborted) {
      const id = randomUUID()
      const answer = await send(method, path, { agent, ...method === 'POST' && { body: { id, item: 'a book' } } })
      next(answer, id)
      await pause(answer === null ? 250 : 20)
    }
  }

  function orders (delay: number): Promise<void> {
    return stubborn('POST', '/orders', delay, (answer, id) => { if (answer?.status === 201) acknowledged.push(id) })
  }

  async function jobs (): Promise<void> {
    const agent = keepAlive()
    while (!ended.signal.aborted) {
      const answer = await send('POST', '/background', { agent })
      if (answer?.status === 202) accepted.push(JSON.parse(answer.body).id)
      await pause(700)
    }
  }

  async function slow (index: number): Promise<void> {
    await pause(200 * index)
    const answer = await send('GET', '/slow', { agent: keepAlive() })
    onSlowEnd(index + 1, answer?.body ?? 'no answer')
  }

  async function stream (index: number): Promise<void> {
    await pause(600 * index)
    const answer = await send('GET', '/stream', { agent: keepAlive() })
    const events = answer?.body.split('\n\n').filter(event => event !== '') ?? []
    const ticks = events.filter(event => event.includes('"type":"tick"')).length
    const marked = events.at(-1)?.includes('data: {"type":"end","reason":"shutdown"}') === true
    const seen: StreamSeen = { events: ticks, end: marked ? 'marker' : ticks === 20 ? 'all' : 'cut' }
    streams.push(seen)
    onStreamEnd(index + 1, seen)
  }

  /** Sends messages to the echo route until the service closes the WebSocket. */
  async function webSocket (index: number): Promise<void> {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`)
    let hasMessage = false
    socket.on('error', () => {})
    socket.on('message', message => { hasMessage ||= String(message).includes('server_shutdown') })
    const closed = once(socket, 'close') as Promise<[number]>
    await once(socket, 'open')
    while (socket.readyState === WebSocket.OPEN && !ended.signal.aborted) {
      socket.send('hello')
      await pause(100)
    }
    if (ended.signal.aborted) socket.terminate()
    const [code] = await closed
    const seen = { code, hasMessage }
    webSockets.push(seen)
    onWebSocketEnd(index + 1, seen)
  }

  /** A connection that is opened in advance, as browsers and proxies do, and used when draining begins. */
  async function lateComer (): Promise<void> {
    const socket = createConnection({ host: '127.0.0.1', port })
    await once(socket, 'connect')
    await late
    if (!ended.signal.aborted) await send('GET', '/', { socket })
    socket.destroy()
  }

  async function send (method: string, path: string, { agent, socket, body }: { agent?: Agent, socket?: Socket, body?: unknown }): Promise<Answer | null> {
    const what = `${method} ${path}`
    inFlight++
    try {
      const response = await begin(method, path, body, agent, socket)
      const text = await read(response)
      const status = response.statusCode ?? 0
      const rejected = status === 503 && response.headers['retry-after'] !== undefined
      const fate = rejected ? 'rejected' : status < 400 ? 'answered' : 'lost'
      sent.push({ what, fate, duringShutdown: shuttingDown, durationHeader: response.headers['x-request-duration'] as string | undefined, ...fate === 'lost' && { why: `status ${status}` } })
      return rejected ? null : { status, body: text }
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      sent.push({ what, fate: code === 'ECONNREFUSED' ? 'refused' : 'lost', duringShutdown: shuttingDown, why: code ?? message })
      return null
    } finally {
      inFlight--
    }
  }

  async function begin (method: string, path: string, body: unknown, agent: Agent | undefined, socket: Socket | undefined): Promise<IncomingMessage> {
    const text = body === undefined ? undefined : JSON.stringify(body)
    const request = httpRequest({
      host: '127.0.0.1',
      port,
      method,
      path,
      // Node uses `createConnection` only without an agent, and `agent: false` makes one.
      ...agent !== undefined ? { agent } : { createConnection: () => socket! },
      ...text !== undefined && { headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) } }
    })
    request.end(text)
    const [response] = await once(request, 'response') as [IncomingMessage]
    return response
  }

  /** Each client has an agent of its own, because each is a different client. */
  function keepAlive (): Agent {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    agents.push(agent)
    return agent
  }

  async function pause (ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: ended.signal }).catch(() => {})
  }
}

/** @throws if the answer is truncated */
async function read (response: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of response.setEncoding('utf8')) text += chunk
  return text
}

function times<T> (count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, index) => make(index))
}
