/**
 * The servers that one Fastify instance listens with. There can be more than one: `listen({ host: 'localhost' })`, which
 * is also the default, binds a second server where the name has a second address, and Fastify's `server` is only the
 * first. What listens there would be drained by nobody (fastify#7043).
 */
import type { FastifyInstance } from 'fastify'
import { Server as NetServer, type Socket } from 'node:net'
import type { Server as HttpServer } from 'node:http'
import { turn } from './deadline'

export interface Servers {
  /** Look again: Fastify starts its secondary servers after the main one. */
  refresh(): void
  /** One that came to light with a request. */
  add(server: unknown): void
  readonly listening: boolean
  /**
   * Stop listening and nothing else. `http.Server.close()` would also end idle connections, cut answers that are handed
   * over but not flushed, and stop checking for slow headers. Waits for a turn of the event loop without an accept, so
   * that fewer connections in the accept queue are reset: at most `turns` of them.
   */
  stopListening(turns?: number): Promise<void>
  /** While draining a client that asks first (`Expect: 100-continue`) gets the 503, and not `100 Continue` and then the 503. */
  askFirst(): void
  /** Nobody may end unflushed answers while we drain: Node's closeIdleConnections does, and `http.Server.close()` calls it. */
  protect(): void
  unprotect(): void
}

/** Fastify keeps its secondary servers nowhere else; where it is missing, they come to light with their first request. */
const bindings = 'fastify.serverBindings'

export function createServers (app: FastifyInstance, attach: (server: HttpServer) => void): Servers {
  const servers = new Set<HttpServer>()
  let accepts = 0
  const onConnection = (_socket: Socket): void => { accepts++ }

  const self: Servers = {
    refresh () {
      self.add(app.server)
      const symbol = Object.getOwnPropertySymbols(app).find(each => each.description === bindings)
      const secondary = symbol === undefined ? undefined : (app as unknown as Record<symbol, unknown>)[symbol]
      if (Array.isArray(secondary)) for (const server of secondary) self.add(server)
    },
    add (server) {
      if (!(server instanceof NetServer) || servers.has(server as HttpServer)) return
      servers.add(server as HttpServer)
      server.on('connection', onConnection)
      attach(server as HttpServer)
    },
    get listening () {
      for (const server of servers) if (server.listening) return true
      return false
    },
    async stopListening (turns = 50) {
      for (let seen = -1; self.listening && seen !== accepts && turns > 0; turns--) {
        seen = accepts
        await turn()
      }
      for (const server of servers) if (server.listening) NetServer.prototype.close.call(server)
    },
    askFirst () {
      for (const server of servers) {
        if (server.listenerCount('checkContinue') === 0) server.on('checkContinue', (req, res) => server.emit('request', req, res))
      }
    },
    protect () {
      for (const server of servers) server.closeIdleConnections = () => {}
    },
    unprotect () {
      // The method of the class comes back to light.
      for (const server of servers) delete (server as Partial<HttpServer>).closeIdleConnections
    }
  }
  return self
}
