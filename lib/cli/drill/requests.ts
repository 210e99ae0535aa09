/** Sends the requests of a drill: half on keep-alive connections, half on one-shot connections. */
import { setMaxListeners } from 'node:events'
import { every, now, turn, within } from '../../util/time'
import { watchAccepted } from './accepted'
import { classify, describe, mayRetry, type Ending } from './classes'
import { createConnection, openSocket, type Connection, type DrillRequest, type Exchange } from './connection'
import type { Record } from './record'
import type { Target } from './target'

/** The running traffic. */
export interface Traffic {
  /** Sends no more requests. */
  stop (): void
  /** Waits at most `ms` milliseconds for the requests in flight. */
  settle (ms: number): Promise<void>
  /**
   * Ends the requests in flight, and closes the connections.
   *
   * @param hungMs silence that counts as hung, in milliseconds
   */
  abandon (hungMs: number): Promise<void>
}

/** What the traffic is made of. */
export interface TrafficOptions {
  readonly target: Target
  readonly requests: readonly DrillRequest[]
  /** Requests per second. */
  readonly rate: number
  /** Keep-alive connections, and the most one-shot connections. */
  readonly connections: number
  /** Called if the drill itself fails. */
  readonly onError: (error: unknown) => void
}

/** How often a request is repeated until the state of the listener is clear. */
const mostRetries = 3

/** Starts to send requests. */
export function startRequests (
  { target, requests, rate, connections, onError }: TrafficOptions, record: Record
): Traffic {
  const { address, host } = target
  const accepted = watchAccepted(address.port)
  const abandonment = new AbortController()
  // Each connection that is being opened listens.
  setMaxListeners(0, abandonment.signal)
  const idle: Connection[] = []
  const exchanges = new Set<Exchange>()
  const inFlight = new Set<Promise<void>>()
  let busyKeepAlive = 0
  let busyOneShot = 0
  let sent = 0
  let hung = 0

  /**
   * Takes the connection that was idle for the longest time. Before the signal, first all keep-alive connections are
   * opened. After it, a client uses each connection that it has.
   */
  function takeIdle (): Connection | undefined {
    idle.splice(0, Infinity, ...idle.filter(connection => connection.usable))
    return idle.length + busyKeepAlive > connections || record.marks.signal !== null ? idle.shift() : undefined
  }

  async function run (
    connection: Connection, request: DrillRequest, keepAlive: boolean
  ): Promise<{ ending: Ending, closes: boolean }> {
    const exchange = connection.send(request, host, keepAlive)
    exchanges.add(exchange)
    if (abandonment.signal.aborted) exchange.abandon()
    const ending = await exchange.ended
    exchanges.delete(exchange)
    return { ending, closes: keepAlive && exchange.head?.keepAlive === false }
  }

  /** One request on a new connection. */
  async function runOnce (request: DrillRequest): Promise<Ending> {
    const socket = await openSocket(address, abandonment.signal)
    return 'kind' in socket ? socket : (await run(createConnection(socket), request, false)).ending
  }

  async function retry (request: DrillRequest): Promise<Ending> {
    let ending = await runOnce(request)
    for (let count = 1; count < mostRetries && mayRetry(ending); count++) ending = await runOnce(request)
    return ending
  }

  async function send (request: DrillRequest, keepAlive: boolean): Promise<void> {
    // A connection that the server has closed while the drill was stopped must not be taken for an idle one.
    await turn()
    const sentAt = now()
    let connection = keepAlive ? takeIdle() : undefined
    let result: { ending: Ending, closes: boolean } | null = null
    let seenAccepted: (() => boolean | null) | null = null
    const reused = connection !== undefined
    if (connection === undefined) {
      const socket = await openSocket(address, abandonment.signal)
      if ('kind' in socket) result = { ending: socket, closes: false }
      else {
        connection = createConnection(socket)
        seenAccepted = accepted.watch(connection.localPort)
      }
    }
    result ??= await run(connection!, request, keepAlive)
    const { ending, closes } = result
    const attempt = { ending, reused, accepted: seenAccepted?.() ?? null, retry: mayRetry(ending) ? await retry(request) : null }
    const last = attempt.retry ?? ending
    record.add({
      request,
      class: classify({ ...attempt, afterSignal: record.marks.signal !== null }, hung),
      sentAt,
      detail: describe(attempt),
      status: last.kind === 'answer' ? last.status : null,
      closes
    })
    if (connection?.usable === true && !abandonment.signal.aborted) idle.push(connection)
    else connection?.close()
  }

  function begin (): void {
    // Alternately; the other kind if one has no free place.
    const wantsKeepAlive = sent % 2 === 0
    const keepAlive = busyKeepAlive < connections && (wantsKeepAlive || busyOneShot >= connections)
    if (!keepAlive && busyOneShot >= connections) return
    const request = requests[sent % requests.length]!
    sent++
    if (keepAlive) busyKeepAlive++
    else busyOneShot++
    const done = send(request, keepAlive).catch(onError).finally(() => {
      inFlight.delete(done)
      if (keepAlive) busyKeepAlive--
      else busyOneShot--
    })
    inFlight.add(done)
  }

  const interval = Math.max(1, Math.min(50, 1_000 / rate))
  const most = Math.max(1, Math.ceil(rate * 0.02))
  let due = 0
  let last = now()
  const stop = every(interval, () => {
    const time = now()
    // Time in which the drill itself was stopped is not made up for.
    due = Math.min(due + (time - last) * rate / 1_000, most)
    last = time
    for (; due >= 1; due--) begin()
  })

  return {
    stop,
    async settle (ms) { await within(ms, () => Promise.all(inFlight)) },
    async abandon (hungMs) {
      stop()
      hung = hungMs
      abandonment.abort()
      for (const exchange of exchanges) exchange.abandon()
      await Promise.all(inFlight)
      for (const connection of idle) connection.close()
    }
  }
}
