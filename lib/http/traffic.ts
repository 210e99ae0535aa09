/** The traffic of the app: its servers, the table of requests in flight, and the drains. */
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import type { Outcome } from '../../types/index'
import { ShutdownDrainingError } from '../errors'
import type { Events } from '../lifecycle/events'
import type { Lifecycle } from '../lifecycle/phases'
import type { Counts } from '../lifecycle/report'
import type { Tasks } from '../lifecycle/tasks'
import type { OnProblem } from '../lifecycle/problems'
import type { Settings } from '../options'
import { afterClose } from '../util/replaced-methods'
import { inTime, turn } from '../util/time'
import { createCategories } from './categories'
import { createConnectionClose } from './connection-close'
import { createConnections } from './connections'
import type { Drain } from './drains/drain'
import { createFastifySseDrain } from './drains/fastify-sse'
import { createHttp2Drain } from './drains/http2'
import { createIdleConnectionsDrain } from './drains/idle-connections'
import { createRequestsDrain } from './drains/requests'
import { createWebSocketsDrain } from './drains/websockets'
import { createInFlightTable, type InFlightTable } from './in-flight'
import { textOfId } from './in-flight-entry'
import { keepFirst, type KeptListener, type ServerListener } from './kept-listener'
import { createLastRequest, type LastRequest } from './last-request'
import { answerTimeoutOf } from './rejected-requests'
import type { Rejection } from './rejection'
import { createRequestCounts } from './request-counts'
import { createServers, type HostServers, type Servers } from './servers'
import { isShared, type Handover } from './shared-servers'

/** The traffic, as the other wings use it. */
export interface Traffic {
  /** The table of requests in flight. */
  readonly inFlight: InFlightTable
  /** The servers of the app. */
  readonly servers: Servers
  /** The last request, by which lame-duck ends. */
  readonly lastRequest: LastRequest
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
  /**
   * Draining begins. From now on, no other part of Node or Fastify closes a connection, and every request goes to
   * Fastify.
   */
  beginDraining(): void
  /** Waits up to `ms` milliseconds for the remaining requests, then closes all connections. */
  end(ms: number): Promise<Outcome>
  /** Destroys all connections. Call it if `end` has failed, because Fastify's close waits for them. */
  destroyAll(): void
  /** Cuts one request now. @returns whether a request with this id was in flight */
  cut(id: string): boolean
  /** Returns the counts of the report. */
  counts(): Omit<Counts, 'tasks'>
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
  readonly tasks: Pick<Tasks, 'active'>
  readonly rejection: Rejection
  /** Whether this is a worker of node:cluster. */
  readonly inCluster: boolean
  readonly onProblem: OnProblem
  /** Called when another app takes over the server of this one. */
  readonly onHandover: () => void
}

/** Creates the traffic, and attaches it to the servers of the host. */
export function createTraffic (
  host: HostServers,
  { settings, lifecycle, events, tasks, rejection, inCluster, onProblem, onHandover }: TrafficOptions
): Traffic {
  const { timeouts } = settings
  const connections = createConnections(connection => {
    try {
      inFlight.onConnectionClose(connection)
    } catch (error) {
      onProblem('The answers of a closed connection could not be counted', error)
    }
  })
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
    answerTimeout: answerTimeoutOf(timeouts),
    onProblem
  })
  const requestCounts = createRequestCounts(inFlight, events, lifecycle)
  const lastRequest = createLastRequest(connections)
  const hasFixedDelay = settings.delay.min === settings.delay.max
  const { isExempt } = host
  const trackRequest: ServerListener<'request'> = hasFixedDelay
    ? inFlight.track
    : (req, res) => {
        if (isExempt === null || !isExempt(req)) lastRequest.note(res)
        inFlight.track(req, res)
      }
  const requests = createRequestsDrain(inFlight, settings, {
    // A connection that another app has taken over stays open.
    announceClose: () => { if (!servers.handedOver) inFlight.announceClose() },
    tasksRun: () => tasks.active > 0,
    onCut: requestCounts.cut
  })
  const webSockets = createWebSocketsDrain({
    timeouts,
    message: settings.webSocketMessage,
    upgradeResponse: rejection.upgradeResponse,
    onTerminate: name => requestCounts.cutOther('websocket', name),
    onProblem
  })
  const http2 = createHttp2Drain({
    connections,
    requests,
    busySessions: inFlight.busySessions,
    untilAnswered: inFlight.untilAnswered,
    onDestroy: () => requestCounts.cutOther('http2-session', 'HTTP/2 session'),
    onProblem
  })
  const busySockets = (): Set<Socket | null> => new Set([...inFlight.busySockets(), ...webSockets.sockets()])
  const idleConnections = createIdleConnectionsDrain(connections, busySockets, onProblem)
  const attached = new Map<Server, KeptListener<'request'>>()
  const restoreClose: (() => void)[] = []
  const servers = createServers(host, inCluster, attach, detach)
  // Another app may still use a shared server. This app takes it over when it listens.
  if (!isShared(host.main)) servers.refresh()

  return {
    inFlight,
    servers,
    lastRequest,
    drains: [requests, createFastifySseDrain(inFlight, onProblem), webSockets, http2, idleConnections],
    get activeWebSockets () { return webSockets.active },
    get listening () { return servers.listening },
    begin () {
      // This step is first. While the fast path is open, each count of the requests looks at all connections.
      inFlight.closeFastPath()
      requestCounts.begin()
      servers.disableCloseIdleConnections()
    },
    stopListening: () => servers.stopListening(),
    waitForFirstBytes: () => idleConnections.untilFirstBytes(firstBytes),
    failListen: servers.failListen,
    beginDraining () {
      servers.answerExpectations()
      const handleLate = lateHandler()
      for (const kept of attached.values()) kept.replaceAll(handleLate)
      requestCounts.beginDraining()
      inFlight.beginDraining()
    },
    async end (ms) {
      // The requests on the last connections are read in this turn, and get their answer.
      await turn()
      if (!servers.handedOver) inFlight.announceClose()
      await Promise.all([inTime(ms, inFlight.untilEmpty()), connectionClose.untilClosed(ms)])
      await inFlight.answerRejected(socketClose)
      const left = await inFlight.cut(() => true, 'all')
      left.forEach(requestCounts.cut)
      if (![...attached.keys()].some(isShared)) await idleConnections.closeAll()
      // A destroyed socket emits `close` later. The pipelined answers that waited on it end then.
      await inTime(socketClose, inFlight.untilEmpty())
      servers.enableCloseIdleConnections()
      for (const server of attached.keys()) if (isShared(server)) closeConnectionsAfter(server)
      return left.length === 0 ? 'clean' : 'forced'
    },
    destroyAll () {
      // A server of HTTP/2 does not have the method.
      for (const server of attached.keys()) (server as Partial<Server>).closeAllConnections?.()
      for (const { socket } of connections.all()) socket.destroy()
    },
    cut (given) {
      const id = textOfId(given)
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

  function attach (server: Server, { sockets, sessions }: Handover): void {
    const kept = keepFirst(server, 'request', trackRequest, true)
    attached.set(server, kept)
    if (lifecycle.hasReached('draining')) kept.replaceAll(lateHandler())
    connections.attach(server, sockets)
    webSockets.attach(server)
    http2.attach(server, sessions)
    idleConnections.attach(server)
  }

  function detach (server: Server): Handover {
    inFlight.closeFastPath()
    attached.get(server)?.release()
    attached.delete(server)
    restoreClose.splice(0).forEach(restore => restore())
    webSockets.detach(server)
    idleConnections.detach(server)
    if (servers.handedOver) onHandover()
    return { sockets: connections.detach(server), sessions: http2.detach(server) }
  }

  /** Closes the last connections of a server that may outlive the app when its own `close` has been called. */
  function closeConnectionsAfter (server: Server): void {
    restoreClose.push(afterClose(server, () => { if (!server.listening) void idleConnections.closeAll() }))
  }

  /**
   * Returns the handler of the requests that arrive while draining. Other listeners on the server do not get them,
   * because the 503 is the only answer.
   */
  function lateHandler (): ServerListener<'request'> {
    const handle = host.handler(inFlight, rejection)
    return (req, res) => {
      inFlight.track(req, res)
      handle(req, res)
    }
  }
}
