/** All that comes in: the servers, the table of what is in flight, and the drains that wait for it. */
import type { Server } from 'node:http'
import type { FastifyInstance } from 'fastify'
import type { Outcome, ShutdownReport } from '../../types/index'
import { ShutdownDrainingError } from '../errors'
import type { Events } from '../lifecycle/events'
import type { Lifecycle } from '../lifecycle/phases'
import type { Settings } from '../options'
import { turn, within } from '../util/time'
import { createCategories } from './categories'
import { createConnections } from './connections'
import type { Drain } from './drains/drain'
import { http2Drain } from './drains/http2'
import { connectionsDrain } from './drains/idle-connections'
import { requestsDrain } from './drains/requests'
import { streamsDrain } from './drains/streams'
import { webSocketsDrain } from './drains/websockets'
import { createInFlightTable, type InFlightTable } from './in-flight'
import type { Refusal } from './rejection'
import { createTally } from './request-counts'
import { createServers, type Servers } from './servers'

export interface Traffic {
  readonly table: InFlightTable
  readonly servers: Servers
  readonly drains: readonly Drain[]
  readonly webSockets: number
  /** Whether a server listens: otherwise no load balancer can see this one. */
  readonly listening: boolean
  /** The shutdown begins: the report counts from here. */
  begin(): void
  /** Stops listening and nothing else. */
  stopListening(): Promise<void>
  /** Waits for the first bytes of the connections that were accepted last, while requests are still served. */
  hearLast(): Promise<void>
  /** Refuses each later `listen()`. @param over resolves to the error that the caller gets, and to when */
  refuseListen(over: Promise<Error>): void
  /** Draining begins: from here on no other part of Node or Fastify ends a connection. */
  beginDraining(): void
  /** Gives what is left `ms` milliseconds, then ends all connections. */
  end(ms: number): Promise<Outcome>
  /** Fastify closes its server now, and answers later requests with a 503 of its own: each gets a Retry-After header. */
  beginCleaning(): void
  /** Ends one request now. @returns whether there was one of that id */
  cut(id: string): boolean
  counts(): Pick<ShutdownReport, 'requests' | 'streams' | 'webSockets' | 'http2Sessions' | 'sockets'>
}

/** Time for the first bytes of a connection that was accepted last, in milliseconds. */
const firstBytes = 100

/** Time for a destroyed socket to emit `close`, in milliseconds. */
const socketClose = 100

export interface TrafficOptions {
  readonly settings: Settings
  readonly lifecycle: Lifecycle
  readonly events: Events
  readonly refusal: Refusal
  /** Whether other processes may listen on the same sockets. */
  readonly sharedListeners: boolean
  readonly onProblem: (message: string, error: unknown) => void
}

export function createTraffic (app: FastifyInstance, { settings, lifecycle, events, refusal, sharedListeners, onProblem }: TrafficOptions): Traffic {
  const { timeouts } = settings
  const connected = createConnections(connection => table.lose(connection))
  const table: InFlightTable = createInFlightTable({
    track: settings.track,
    categories: createCategories(settings, onProblem),
    connections: connected,
    refuse: refusal.answer,
    linger: carrier => connections.linger(carrier),
    cutReason: () => new ShutdownDrainingError(),
    longest: timeouts.requests
  })
  const tally = createTally(table, events, lifecycle)
  const requests = requestsDrain(table, timeouts.requests, timeouts.streams, settings.categories, tally.cut)
  const streams = streamsDrain(table, timeouts.streams, tally.cut)
  const webSockets = webSocketsDrain({
    timeout: timeouts.streams,
    message: settings.webSocketMessage,
    refuse: refusal.upgradeAnswer,
    onTerminate: name => tally.cutOther('websocket', name),
    onProblem
  })
  const http2 = http2Drain({
    timeout: Math.max(requests.timeout, streams.timeout),
    busy: table.busySessions,
    served: table.served,
    onDestroy: () => tally.cutOther('http2-session', 'HTTP/2 session')
  })
  const connections = connectionsDrain(connected, () => new Set([...table.busySockets(), ...webSockets.sockets()]))
  const attached = new Set<Server>()
  const servers = createServers(app, sharedListeners, server => {
    attached.add(server)
    server.prependListener('request', table.track)
    if (lifecycle.hasReached('cleaning')) addRetryAfter(server)
    for (const part of [connected, webSockets, http2, connections]) part.attach(server)
  })
  servers.refresh()

  return {
    table,
    servers,
    drains: [requests, streams, webSockets, http2, connections],
    get webSockets () { return webSockets.active },
    get listening () { return servers.listening },
    begin: tally.begin,
    stopListening: () => servers.stopListening(),
    hearLast: () => connections.heard(firstBytes),
    refuseListen: servers.refuseListen,
    beginDraining () {
      servers.protect()
      servers.askFirst()
      tally.beginDraining()
    },
    async end (ms) {
      // What came in with the last accepts is read in this turn, and gets its answer.
      await turn()
      await Promise.all([within(ms, table.empty), connections.lingered(ms)])
      const left = await table.cut(() => true)
      left.forEach(tally.cut)
      await connections.finish()
      // A destroyed socket emits `close` a moment later, and with it end the answers that waited behind another one.
      await within(socketClose, table.empty)
      servers.unprotect()
      return left.length === 0 ? 'clean' : 'forced'
    },
    beginCleaning () { attached.forEach(addRetryAfter) },
    cut (given) {
      // `genReqId` may return numbers, whatever Fastify's type of `request.id` says.
      const id = String(given)
      const known = id !== '' && table.list().some(entry => entry.id === id)
      if (known) void table.cut(entry => entry.id === id).then(entries => entries.forEach(tally.cut))
      return known
    },
    counts: () => ({ ...tally.counts(), webSockets: webSockets.counts(), http2Sessions: http2.counts(), sockets: connections.counts() })
  }

  function addRetryAfter (server: Server): void {
    server.prependListener('request', (_req, res) => { res.setHeader('retry-after', refusal.retryAfter()) })
  }
}
