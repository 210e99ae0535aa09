/** The traffic of the app: its servers, the table of requests in flight, and the drains. */
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Outcome, ShutdownReport } from '../../types/index'
import { ShutdownDrainingError } from '../errors'
import type { Events } from '../lifecycle/events'
import type { Lifecycle } from '../lifecycle/phases'
import type { Settings } from '../options'
import { turn, within } from '../util/time'
import { createCategories } from './categories'
import { createConnectionClose } from './connection-close'
import { createConnections } from './connections'
import type { Drain } from './drains/drain'
import { createHttp2Drain } from './drains/http2'
import { createIdleConnectionsDrain } from './drains/idle-connections'
import { createRequestsDrain } from './drains/requests'
import { createStreamsDrain } from './drains/streams'
import { createWebSocketsDrain } from './drains/websockets'
import { createInFlightTable, type InFlightTable } from './in-flight'
import { answerTimeoutOf } from './rejected-requests'
import type { Rejection } from './rejection'
import { createRequestCounts } from './request-counts'
import { createServers, type Servers } from './servers'

/** The traffic, as the other wings use it. */
export interface Traffic {
  /** The table of requests in flight. */
  readonly inFlight: InFlightTable
  /** The servers of the app. */
  readonly servers: Servers
  /** The drains, which run in parallel. */
  readonly drains: readonly Drain[]
  /** How many connections are upgraded now. */
  readonly activeWebSockets: number
  /** Whether a server listens. If none does, no load balancer sends traffic here. */
  readonly listening: boolean
  /** The shutdown begins: the report counts from here. */
  begin(): void
  /** Stops listening and does nothing else. */
  stopListening(): Promise<void>
  /** Waits for the first bytes of the last accepted connections. Call it while requests are still served. */
  waitForFirstBytes(): Promise<void>
  /** From now on, every `listen()` fails. @param reason resolves to the error when `listen()` may fail */
  failListen(reason: Promise<Error>): void
  /** Draining begins. From now on, no other part of Node or Fastify closes a connection. */
  beginDraining(): void
  /** Waits up to `ms` milliseconds for the remaining requests, then closes all connections. */
  end(ms: number): Promise<Outcome>
  /** Cleaning begins. Fastify now answers requests with its own 503, so each one gets a Retry-After header. */
  beginCleaning(): void
  /** Cuts one request now. @returns whether a request with this id was in flight */
  cut(id: string): boolean
  /** Returns the counts of the report. */
  counts(): Pick<ShutdownReport, 'requests' | 'streams' | 'webSockets' | 'http2Sessions' | 'sockets'>
}

/** Time for the first bytes of the last accepted connections, in milliseconds. */
const firstBytes = 100

/** Time for a destroyed socket to emit `close`, in milliseconds. */
const socketClose = 100

/** Options of the traffic. */
export interface TrafficOptions {
  readonly settings: Settings
  readonly lifecycle: Lifecycle
  readonly events: Events
  readonly rejection: Rejection
  /** Whether this is a worker of node:cluster. */
  readonly inCluster: boolean
  readonly onProblem: (message: string, error: unknown) => void
}

/** Creates the traffic, and attaches it to the servers of the app. */
export function createTraffic (
  app: FastifyInstance, { settings, lifecycle, events, rejection, inCluster, onProblem }: TrafficOptions
): Traffic {
  const { timeouts } = settings
  const connections = createConnections(connection => inFlight.onConnectionClose(connection))
  const connectionClose = createConnectionClose()
  const inFlight: InFlightTable = createInFlightTable({
    track: settings.track,
    categories: createCategories(settings, onProblem),
    connections,
    connectionClose,
    rejection,
    onCut: entry => requestCounts.cut(entry),
    cutReason: () => new ShutdownDrainingError(),
    handlerTimeout: timeouts.requests,
    answerTimeout: answerTimeoutOf(timeouts)
  })
  const requestCounts = createRequestCounts(inFlight, events, lifecycle)
  const requests = createRequestsDrain(
    inFlight, timeouts.requests, timeouts.streams, settings.categories, requestCounts.cut
  )
  const streams = createStreamsDrain(inFlight, timeouts.streams, requestCounts.cut)
  const webSockets = createWebSocketsDrain({
    timeout: timeouts.streams,
    message: settings.webSocketMessage,
    upgradeResponse: rejection.upgradeResponse,
    onTerminate: name => requestCounts.cutOther('websocket', name),
    onProblem
  })
  const http2 = createHttp2Drain({
    timeout: Math.max(requests.timeout, streams.timeout),
    busySessions: inFlight.busySessions,
    untilAnswered: inFlight.untilAnswered,
    onDestroy: () => requestCounts.cutOther('http2-session', 'HTTP/2 session')
  })
  const busySockets = (): Set<Socket | null> => new Set([...inFlight.busySockets(), ...webSockets.sockets()])
  const idleConnections = createIdleConnectionsDrain(connections, busySockets)
  const attached = new Set<Server>()
  const servers = createServers(app, inCluster, server => {
    attached.add(server)
    server.prependListener('request', inFlight.track)
    if (lifecycle.hasReached('cleaning')) addRetryAfter(server)
    for (const part of [connections, webSockets, http2, idleConnections]) part.attach(server)
  })
  servers.refresh()

  return {
    inFlight,
    servers,
    drains: [requests, streams, webSockets, http2, idleConnections],
    get activeWebSockets () { return webSockets.active },
    get listening () { return servers.listening },
    begin: requestCounts.begin,
    stopListening: () => servers.stopListening(),
    waitForFirstBytes: () => idleConnections.untilFirstBytes(firstBytes),
    failListen: servers.failListen,
    beginDraining () {
      servers.disableCloseIdleConnections()
      servers.answerExpectations()
      requestCounts.beginDraining()
      inFlight.beginDraining()
    },
    async end (ms) {
      // The requests on the last connections are read in this turn, and get their answer.
      await turn()
      await Promise.all([within(ms, inFlight.untilEmpty), connectionClose.untilClosed(ms)])
      await inFlight.answerRejected(socketClose)
      const left = await inFlight.cut(() => true, 'all')
      left.forEach(requestCounts.cut)
      await idleConnections.closeAll()
      // A destroyed socket emits `close` later. The pipelined answers that waited on it end then.
      await within(socketClose, inFlight.untilEmpty)
      servers.enableCloseIdleConnections()
      return left.length === 0 ? 'clean' : 'forced'
    },
    beginCleaning () { attached.forEach(addRetryAfter) },
    cut (given) {
      // `genReqId` may return a number, although Fastify's type of `request.id` is string.
      const id = String(given)
      const known = id !== '' && inFlight.list().some(entry => entry.id === id)
      if (known) void inFlight.cut(entry => entry.id === id, 'all').then(entries => entries.forEach(requestCounts.cut))
      return known
    },
    counts: () => ({
      ...requestCounts.counts(),
      webSockets: webSockets.counts(),
      http2Sessions: http2.counts(),
      sockets: idleConnections.counts()
    })
  }

  function addRetryAfter (server: Server): void {
    server.prependListener('request', (_req, res) => { res.setHeader('retry-after', rejection.retryAfter()) })
  }
}
