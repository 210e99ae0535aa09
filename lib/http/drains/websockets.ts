/**
 * The drain of WebSockets and other upgraded connections. Node no longer manages their sockets: `server.close()` waits
 * for them without end, and `closeAllConnections()` does not close them.
 *
 * Each WebSocket gets close code 1001 (see `websocket-close.ts`). A connection that has not ended in time is destroyed.
 */
import { Server as HttpServer, type IncomingMessage, type Server } from 'node:http'
import { Server as HttpsServer } from 'node:https'
import { Socket } from 'node:net'
import { createConditions } from '../../util/conditions'
import { inTime, turn } from '../../util/time'
import type { Drain } from './drain'
import { createWebSocketClose, watchFrames } from './websocket-close'
import type { Frames } from './websocket-frames'

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
  /** Returns how many connections ended while draining, and how many were destroyed because their time was up. */
  counts(): { readonly closed: number, readonly terminated: number }
}

/** An upgraded connection. */
interface Upgraded {
  /** The protocol that the client has requested. */
  readonly protocol: string
  /** The frames of the server; `null` for other protocols than WebSocket. */
  readonly frames: Frames | null
  /** Whether we have closed the WebSocket. */
  closeSent: boolean
}

/** Options of the drain. */
export interface WebSocketsOptions {
  /** Longest time for all of them, in milliseconds. */
  readonly timeout: number
  /** The last message to each WebSocket. */
  readonly message: string | Buffer | undefined
  /** Returns the whole answer to a CONNECT that arrives while draining. */
  readonly upgradeResponse: () => string
  /** Called for each connection that is destroyed because its time is up. */
  readonly onTerminate: (name: string) => void
  /** Called if a WebSocket cannot be closed. */
  readonly onProblem: (message: string, error: unknown) => void
}

/** Creates the drain of WebSockets and other upgraded connections. */
export function createWebSocketsDrain ({
  timeout, message, upgradeResponse, onTerminate, onProblem
}: WebSocketsOptions): WebSocketsDrain {
  const upgraded = new Map<Socket, Upgraded>()
  const servers = new Set<Server>()
  const conditions = createConditions()
  const count = { closed: 0, terminated: 0 }
  const webSocketClose = createWebSocketClose(message, onProblem)
  let draining = false
  const listeners = {
    upgrade (req: IncomingMessage & { upgrade?: boolean }, socket: Socket) {
      // Node sets it on its own requests. The request of injectWS (@fastify/websocket) is a plain object.
      req.upgrade = true
      follow(socket, req.headers.upgrade ?? 'unknown')
    },
    connect: (_req: IncomingMessage, socket: Socket) => follow(socket, 'CONNECT')
  }

  return {
    name: 'WebSockets',
    timeout,
    attach (server) {
      servers.add(server)
      if (draining) return rejectUpgrades(server)
      for (const event of upgradeEventsOf(server)) {
        if (server.listenerCount(event) > 0) server.prependListener(event, listeners[event])
      }
      server.on('newListener', onNewListener)
    },
    detach (server) {
      servers.delete(server)
      server.removeListener('newListener', onNewListener)
      for (const event of upgradeEventsOf(server)) server.removeListener(event, listeners[event])
    },
    get active () { return upgraded.size },
    sockets: () => upgraded.keys(),
    beginDraining () {
      draining = true
      for (const server of servers) rejectUpgrades(server)
      for (const [socket, entry] of upgraded) {
        close(socket, entry)
        // A WebSocket of injectWS (@fastify/websocket) has no connection that could end.
        if (!(socket instanceof Socket)) upgraded.delete(socket)
      }
    },
    async drain (ms) {
      if (upgraded.size === 0) return 'clean'
      if (await inTime(ms, conditions.until(() => upgraded.size === 0))) return 'clean'
      const left = [...upgraded]
      upgraded.clear()
      for (const [socket, { protocol }] of left) {
        count.terminated++
        socket.destroy()
        onTerminate(protocol)
      }
      return 'forced'
    },
    pending: () => Array.from(upgraded.values(), ({ protocol }) => `upgraded connection (${protocol})`),
    counts: () => ({ ...count })
  }

  /**
   * Adds our listener when the app adds its first one. Without a listener of the app, ours would leave every upgrade
   * without an answer.
   */
  function onNewListener (this: Server, event: string | symbol, listener: (...args: never[]) => void): void {
    if (event !== 'upgrade' && event !== 'connect') return
    const ours = listeners[event]
    if (listener === ours || !upgradeEventsOf(this).includes(event) || this.listeners(event).includes(ours)) return
    this.prependListener(event, ours)
  }

  /**
   * Removes the listeners for upgrades. Without them, Node handles an upgrade as a request, which gets our 503. With
   * them, the reply to a rejected upgrade would not end its socket. Node closes a CONNECT without an answer if there is
   * no listener, so we add one that answers.
   */
  function rejectUpgrades (server: Server): void {
    server.removeListener('newListener', onNewListener)
    for (const event of upgradeEventsOf(server)) {
      const hadListeners = server.listenerCount(event) > 0
      server.removeAllListeners(event)
      if (hadListeners && event === 'connect') {
        server.on('connect', (_req, socket) => {
          socket.on('error', () => socket.destroy()).end(upgradeResponse(), () => socket.destroy())
        })
      }
    }
  }

  function follow (socket: Socket, protocol: string): void {
    // A secondary server also emits its upgrades on the main server.
    if (upgraded.has(socket)) return
    const isWebSocket = protocol.toLowerCase() === 'websocket'
    const entry: Upgraded = { protocol, frames: isWebSocket ? watchFrames(socket, onWrite) : null, closeSent: false }
    upgraded.set(socket, entry)
    socket.once('close', forget)

    function onWrite (): void {
      // After the handshake, the app creates the WebSocket in the same turn.
      if (draining && !entry.closeSent) void turn().then(() => close(socket, entry))
    }
  }

  function forget (this: Socket): void {
    if (!upgraded.delete(this)) return
    if (draining) count.closed++
    conditions.check()
  }

  /**
   * Closes a WebSocket. If this is not possible yet, the next write tries it again. Other protocols end by themselves.
   */
  function close (socket: Socket, entry: Upgraded): void {
    if (entry.frames === null || entry.closeSent) return
    entry.closeSent = webSocketClose.close(socket, entry.frames)
  }
}

/**
 * Returns the events of upgraded connections. With HTTP/2, CONNECT is an ordinary stream, and the event has other
 * arguments.
 */
function upgradeEventsOf (server: Server): ('upgrade' | 'connect')[] {
  const each: object = server
  return each instanceof HttpServer || each instanceof HttpsServer ? ['upgrade', 'connect'] : ['upgrade']
}
