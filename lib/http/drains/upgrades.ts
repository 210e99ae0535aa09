/**
 * The upgrades of the servers: requests whose connection another protocol takes over from HTTP. While draining they are
 * rejected.
 */
import { Server as HttpServer, type IncomingMessage, type Server } from 'node:http'
import { Server as HttpsServer } from 'node:https'
import type { Socket } from 'node:net'
import { keepFirst, type KeptListener } from '../kept-listener'

/** The upgrades of the servers. */
export interface Upgrades {
  /** Follows the upgrades of a server. */
  attach(server: Server): void
  /** No longer follows the upgrades of a server, because another app uses it. */
  detach(server: Server): void
  /** From now on, each upgrade gets the 503. */
  reject(): void
}

/** The kept listeners of one server. */
interface Kept {
  readonly upgrade: KeptListener<'upgrade'>
  readonly connect: KeptListener<'connect'> | null
}

/**
 * Creates the upgrades, of no server yet.
 *
 * @param onUpgrade called for each upgrade, with the protocol that the client has requested, before the listeners of
 *   the app. A secondary server also emits its upgrades on the main server, so it may be called twice.
 * @param upgradeResponse returns the whole 503 to a CONNECT
 */
export function createUpgrades (
  onUpgrade: (socket: Socket, protocol: string) => void, upgradeResponse: () => string
): Upgrades {
  /** The server's kept listeners; `connect` is `null` for HTTP/2. */
  const servers = new Map<Server, Kept>()
  let rejecting = false

  return {
    attach (server) {
      const kept: Kept = {
        // Without a listener of the app, ours would leave every upgrade without an answer.
        upgrade: keepFirst(server, 'upgrade', onUpgradeEvent, false),
        connect: hasConnect(server) ? keepFirst(server, 'connect', onConnectEvent, false) : null
      }
      servers.set(server, kept)
      if (rejecting) rejectOn(server, kept)
    },
    detach (server) {
      const kept = servers.get(server)
      servers.delete(server)
      kept?.upgrade.release()
      kept?.connect?.release()
    },
    reject () {
      rejecting = true
      for (const [server, kept] of servers) rejectOn(server, kept)
    }
  }

  /**
   * Removes the listeners. Without them, Node handles an upgrade as a request, which gets our 503. With them, the reply
   * to a rejected upgrade would not end its socket. Node closes a CONNECT without an answer if there is no listener, so
   * a listener that answers is added.
   */
  function rejectOn (server: Server, { upgrade, connect }: Kept): void {
    upgrade.replaceAll(null)
    connect?.replaceAll(server.listenerCount('connect') > 0 ? answer : null)
  }

  function onUpgradeEvent (req: IncomingMessage & { upgrade?: boolean }, socket: Socket): void {
    // Node sets it on its own requests. The request of injectWS (@fastify/websocket) is a plain object.
    req.upgrade = true
    onUpgrade(socket, req.headers.upgrade ?? 'unknown')
  }

  function onConnectEvent (_req: IncomingMessage, socket: Socket): void {
    onUpgrade(socket, 'CONNECT')
  }

  function answer (_req: IncomingMessage, socket: Socket): void {
    socket.on('error', () => socket.destroy()).end(upgradeResponse(), () => socket.destroy())
  }
}

/** Returns whether a CONNECT is an upgrade. With HTTP/2 it is a stream, and the event has other arguments. */
function hasConnect (server: object): boolean {
  return server instanceof HttpServer || server instanceof HttpsServer
}
