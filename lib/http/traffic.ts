/** All that comes in: the servers it comes in by, the table of what is in flight, and the drains that wait for it. */
import type { FastifyInstance } from 'fastify'
import type { Outcome, ShutdownReport } from '../../types/index'
import { createCategories } from './categories'
import { createConnections } from './connections'
import { turn, within } from '../util/time'
import type { Drain } from './drains/drain'
import { connectionsDrain } from './drains/idle-connections'
import { http2Drain } from './drains/http2'
import { requestsDrain } from './drains/requests'
import { streamsDrain } from './drains/streams'
import { webSocketsDrain } from './drains/websockets'
import { ShutdownDrainingError } from '../errors'
import type { Events } from '../lifecycle/events'
import { createInFlightTable, type InFlightTable } from './in-flight'
import type { Settings } from '../options'
import type { PhaseLine } from '../lifecycle/phases'
import type { Refusal } from './rejection'
import { createServers, type Servers } from './servers'
import { createTally } from './request-counts'

export interface Traffic {
  readonly table: InFlightTable
  readonly servers: Servers
  readonly drains: readonly Drain[]
  readonly webSockets: number
  /** End one request now. @returns whether there was one of that id */
  cut(id: string): boolean
  /** Nobody listens any more, and it still serves: who was accepted last gets to say what they want. */
  hearLast(): Promise<void>
  /** Nothing is owed any more, or its time is up: what is left has `ms` milliseconds, then all connections end. */
  end(ms: number): Promise<Outcome>
  counts(): Pick<ShutdownReport, 'requests' | 'streams' | 'webSockets' | 'http2Sessions' | 'sockets'>
}

/** What a client that was accepted last may take to begin its request, in milliseconds. */
const hearing = 100

/** What a socket that was destroyed may take to say so, in milliseconds. */
const closing = 100

export interface TrafficOptions {
  readonly settings: Settings
  readonly phase: PhaseLine
  readonly events: Events
  readonly refusal: Refusal
  /** Whether other processes may listen on the same sockets. */
  readonly sharedListeners: boolean
  readonly onProblem: (message: string, error: unknown) => void
}

export function createTraffic (app: FastifyInstance, { settings, phase, events, refusal, sharedListeners, onProblem }: TrafficOptions): Traffic {
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
  const tally = createTally(table, events, phase)
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
  const servers = createServers(app, sharedListeners, server => {
    server.prependListener('request', (req, res) => {
      table.track(req, res)
      // From here on Fastify answers with a 503 of its own, past every hook.
      if (phase.reached('cleaning')) res.setHeader('retry-after', refusal.retryAfter())
    })
    for (const part of [connected, webSockets, http2, connections]) part.attach(server)
  })
  servers.refresh()
  phase.on('draining', () => {
    servers.protect()
    servers.askFirst()
  })

  return {
    table,
    servers,
    drains: [requests, streams, webSockets, http2, connections],
    get webSockets () { return webSockets.active },
    cut (given) {
      // `genReqId` may make numbers, whatever Fastify's type of `request.id` says.
      const id = String(given)
      const known = id !== '' && table.list().some(entry => entry.id === id)
      if (known) void table.cut(entry => entry.id === id).then(entries => entries.forEach(tally.cut))
      return known
    },
    hearLast: () => connections.heard(hearing),
    async end (ms) {
      // What came in with the last accepts is read in this turn, and gets its answer.
      await turn()
      await Promise.all([within(ms, table.empty), connections.lingered(ms)])
      const left = await table.cut(() => true)
      left.forEach(tally.cut)
      await connections.finish()
      // A destroyed socket says so a moment later: then the last of those that waited behind another answer are over, too.
      await within(closing, table.empty)
      servers.unprotect()
      return left.length === 0 ? 'clean' : 'forced'
    },
    counts: () => ({ ...tally.counts(), webSockets: webSockets.counts(), http2Sessions: http2.counts(), sockets: connections.counts() })
  }
}
