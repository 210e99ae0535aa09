/**
 * Servers that outlive an app. @fastify/restartable passes its server from one app to the next, and replaces the
 * server's `close`. This plugin does not close such a server: its listener and its connections stay open until its own
 * `close` closes the listener.
 */
import type { Server } from 'node:http'
import type { ServerHttp2Session } from 'node:http2'
import type { Socket } from 'node:net'
import { kAttached, kRelease } from '../symbols'

/** The open connections and HTTP/2 sessions of a server, which the next app drains. */
export interface Handover {
  readonly sockets: readonly Socket[]
  readonly sessions: readonly ServerHttp2Session[]
}

/** The servers of one app that may outlive it. */
export interface SharedServers {
  /** Whether another app has taken over a server of this one. */
  readonly handedOver: boolean
  /** Takes over a server from the app that has used it until now. @returns what is open; nothing for a new server */
  takeOver(server: Server): Handover
  /** Remembers the listeners for upgrades. Call it when the app listens, because it has added all of them then. */
  rememberUpgrades(server: Server): void
  /** Forgets a server, because the app has closed. */
  forget(server: Server): void
}

/** A server with the function by which the current app leaves it to the next one. */
type ServerInUse = Server & { [kRelease]?: (server: Server) => Handover }

/**
 * Returns whether a server may outlive its app: its `close` is not Node's own. The `close` that `attach` has
 * replaced does not count, because it begins the shutdown.
 */
export function isShared (server: Server): boolean {
  return Object.hasOwn(server, 'close') && !Object.hasOwn(server, kAttached)
}

/** Creates an empty list. @param leave stops the use of a server, and returns what is open on it */
export function createSharedServers (leave: (server: Server) => Handover): SharedServers {
  const upgradeListeners = new WeakMap<Server, ReturnType<Server['listeners']>>()
  let handedOver = false

  return {
    get handedOver () { return handedOver },
    takeOver (server: ServerInUse) {
      const previous = isShared(server) ? server[kRelease]?.(server) : undefined
      server[kRelease] = release
      return previous ?? { sockets: [], sessions: [] }
    },
    rememberUpgrades (server) {
      if (isShared(server)) upgradeListeners.set(server, server.listeners('upgrade'))
    },
    forget (server: ServerInUse) {
      if (server[kRelease] === release) delete server[kRelease]
    }
  }

  function release (server: Server): Handover {
    handedOver = true
    // An upgrade must reach only the next app.
    for (const listener of upgradeListeners.get(server) ?? []) server.removeListener('upgrade', listener as () => void)
    return leave(server)
  }
}
