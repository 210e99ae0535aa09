/**
 * The drain of WebSockets and other upgraded connections. Node no longer manages their sockets: `server.close()` waits
 * for them without end, and `closeAllConnections()` does not close them.
 *
 * Each WebSocket gets close code 1001 (see `websocket-close.ts`) at a suitable moment (see `websocket-closing.ts`). A
 * connection that has not ended in time is destroyed.
 */
import type { Server } from 'node:http'
import { Socket } from 'node:net'
import type { Timeouts } from '../../../types/index'
import type { OnProblem } from '../../lifecycle/problems'
import { createConditions } from '../../util/conditions'
import { inTime, now } from '../../util/time'
import type { Drain } from './drain'
import { createUpgrades } from './upgrades'
import { followActivity, type Activity } from './websocket-activity'
import { createWebSocketClose } from './websocket-close'
import { createWebSocketClosing, type OpenWebSocket } from './websocket-closing'

/** The drain of WebSockets and other upgraded connections. */
export interface WebSocketsDrain extends Drain {
  /** Drains the upgraded connections of a server. */
  attach(server: Server): void
  /** No longer drains the upgrades of a server. The connections that are upgraded still end. */
  detach(server: Server): void
  /** How many connections are upgraded now. */
  readonly active: number
  /** Returns the sockets of all upgraded connections. */
  sockets(): Iterable<Socket>
  /**
   * Returns how many connections were closed in lame-duck or ended while draining, and how many were destroyed because
   * their time was up.
   */
  counts(): { readonly closed: number, readonly terminated: number }
}

/** An upgraded connection. */
interface Upgraded {
  readonly socket: Socket
  /** The protocol that the client has requested. */
  readonly protocol: string
  /** The time at which it was upgraded, by the clock of `util/time.ts`. */
  readonly since: number
  /** Its messages; `null` for other protocols than WebSocket. */
  readonly activity: Activity | null
  /** Whether we have closed the WebSocket. */
  closeSent: boolean
}

/** An upgraded connection with the protocol WebSocket. */
type FollowedWebSocket = Upgraded & OpenWebSocket

/** Options of the drain. */
export interface WebSocketsOptions {
  /** `streams` is the longest time for all of them, in milliseconds. */
  readonly timeouts: Pick<Required<Timeouts>, 'streams'>
  /** The last message to each WebSocket. */
  readonly message: string | Buffer | undefined
  /** Returns the whole answer to a CONNECT that arrives while draining. */
  readonly upgradeResponse: () => string
  /** Called for each connection that is destroyed because its time is up. */
  readonly onTerminate: (name: string) => void
  /** Called if a WebSocket cannot be closed. */
  readonly onProblem: OnProblem
}

/** Creates the drain of WebSockets and other upgraded connections. */
export function createWebSocketsDrain ({
  timeouts, message, upgradeResponse, onTerminate, onProblem
}: WebSocketsOptions): WebSocketsDrain {
  const upgraded = new Map<Socket, Upgraded>()
  const upgrades = createUpgrades(follow, upgradeResponse)
  const conditions = createConditions()
  const count = { closed: 0, terminated: 0 }
  const webSocketClose = createWebSocketClose(message, onProblem)
  const closing = createWebSocketClosing(findOpen, close)
  let draining = false

  return {
    name: 'WebSockets',
    get timeout () { return timeouts.streams },
    attach: upgrades.attach,
    detach: upgrades.detach,
    get active () { return upgraded.size },
    sockets: () => upgraded.keys(),
    enterLameDuck: closing.enterLameDuck,
    beginDraining () {
      draining = true
      upgrades.reject()
      closing.beginDraining()
    },
    async drain (ms) {
      if (upgraded.size === 0) return 'clean'
      const stopClosing = closing.closeInTime(ms)
      try {
        if (await inTime(ms, conditions.until(() => upgraded.size === 0))) return 'clean'
      } finally {
        stopClosing()
      }
      const left = [...upgraded.values()]
      upgraded.clear()
      for (const { socket, protocol } of left) {
        count.terminated++
        socket.destroy()
        onTerminate(protocol)
      }
      return 'forced'
    },
    pending: () => Array.from(upgraded.values(), ({ protocol }) => `upgraded connection (${protocol})`),
    counts: () => ({ ...count })
  }

  function follow (socket: Socket, protocol: string): void {
    if (upgraded.has(socket)) return
    const isWebSocket = protocol.toLowerCase() === 'websocket'
    const activity = isWebSocket ? followActivity(socket, () => isOpen(entry) && closing.onSend(entry)) : null
    const entry: Upgraded = { socket, protocol, since: now(), activity, closeSent: false }
    upgraded.set(socket, entry)
    socket.once('close', forget)
  }

  function forget (this: Socket): void {
    const entry = upgraded.get(this)
    if (entry === undefined) return
    upgraded.delete(this)
    if (draining || entry.closeSent) count.closed++
    conditions.check()
  }

  /** Returns the WebSockets that we have not closed. Other protocols end by themselves. */
  function findOpen (): FollowedWebSocket[] {
    return [...upgraded.values()].filter(isOpen)
  }

  /** Closes a WebSocket. If this is not possible yet, the next write tries it again. */
  function close (entry: FollowedWebSocket): void {
    if (entry.closeSent) return
    try {
      entry.closeSent = webSocketClose.close(entry.socket, entry.activity.frames)
    } catch (error) {
      // Most calls are from a timer or an event of the socket.
      onProblem('A WebSocket could not be closed', error)
    }
    // A WebSocket of injectWS (@fastify/websocket) has no connection that could end.
    if (!(entry.socket instanceof Socket)) forget.call(entry.socket)
  }
}

function isOpen (entry: Upgraded): entry is FollowedWebSocket {
  return entry.activity !== null && !entry.closeSent
}
