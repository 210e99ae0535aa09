/**
 * The servers that one Fastify instance listens with. There can be more than one: `listen({ host: 'localhost' })`, which
 * is also the default, binds a second server where the name has a second address, and Fastify's `server` is only the
 * first. What listens there would be drained by nobody (fastify#7043).
 */
import type { FastifyInstance } from 'fastify'
import { Server as NetServer, type Socket } from 'node:net'
import type { Server as HttpServer } from 'node:http'
import { secondaryServersOf, setQueueLength } from '../util/node-internals'
import { keepAddress, keepConnections, rejectListen } from '../util/replaced-methods'
import { sleep, turn } from '../util/time'

export interface Servers {
  /** Look again: `listen()` is over, and Fastify has started its secondary servers. */
  refresh(): void
  /** One that came to light with a request. */
  add(server: unknown): void
  readonly listening: boolean
  /**
   * Stop listening and nothing else. `http.Server.close()` would also end idle connections, cut answers that are handed
   * over but not flushed, and stop checking for slow headers. Whoever stands in the accept queue then is reset, maybe with a
   * POST sent that no proxy repeats: so the queue takes no more than one first, and a turn of the event loop without an
   * accept is waited for, at most `turns` of them. A `listen()` that is still on its way is undone.
   */
  stopListening(turns?: number): Promise<void>
  /** While draining a client that asks first (`Expect: 100-continue`) gets the 503, and not `100 Continue` and then the 503. */
  askFirst(): void
  /**
   * Nothing begins to listen any more. A `listen()` that comes now, as one does at the end of a boot, is refused with what
   * `over` resolves to, and not before: who starts a server often ends the process where it does not start.
   */
  refuseListen(over: Promise<Error>): void
  /** Nobody may end unflushed answers while we drain: Node's closeIdleConnections does, and `http.Server.close()` calls it. */
  protect(): void
  unprotect(): void
}

/** What a primary may take to hear that a worker of its cluster has closed, in milliseconds. */
const handOver = 100

/** @param shared whether other processes may listen on the same sockets */
export function createServers (app: FastifyInstance, shared: boolean, attach: (server: HttpServer) => void): Servers {
  const servers = new Set<HttpServer>()
  /** Those that listen, while Fastify's `listen()` is not over. */
  const starting = new Set<NetServer>()
  let accepts = 0
  let stopped = false
  const restoreIdle: (() => void)[] = []
  /** Restores `listen` and `address`, once the app has closed. */
  const restoreListen: (() => void)[] = []
  const onConnection = (_socket: Socket): void => { accepts++ }

  const self: Servers = {
    refresh () {
      self.add(app.server)
      for (const server of secondaryServersOf(app)) self.add(server)
      starting.clear()
      if (stopped) close()
    },
    add (server) {
      if (!(server instanceof NetServer) || servers.has(server as HttpServer)) return
      servers.add(server as HttpServer)
      server.on('connection', onConnection)
      server.on('listening', () => { starting.add(server) })
      attach(server as HttpServer)
    },
    get listening () {
      for (const server of servers) if (server.listening) return true
      return false
    },
    async stopListening (turns = 50) {
      if (!shared) for (const server of servers) if (server.listening) shortenQueue(server)
      for (let seen = -1; self.listening && seen !== accepts && turns > 0; turns--) {
        seen = accepts
        await turn()
      }
      stopped = true
      if (!self.listening) return
      close()
      // What a cluster's primary has accepted for us may be on its way still: Node says there that we are closed, and it goes to
      // another worker. From one who is gone already it does not come back, and its client waits for ever.
      if (shared) await sleep(handOver)
    },
    askFirst () {
      for (const server of servers) {
        if (server.listenerCount('checkContinue') === 0) server.on('checkContinue', (req, res) => server.emit('request', req, res))
      }
    },
    refuseListen (over) {
      for (const server of servers) restoreListen.push(rejectListen(server, over))
      // The app's own close ends in this turn of the event loop.
      void over.then(turn).then(() => restoreAll(restoreListen))
    },
    protect () {
      for (const server of servers) restoreIdle.push(keepConnections(server))
    },
    unprotect () {
      restoreAll(restoreIdle)
    }
  }
  return self

  function close (): void {
    for (const server of servers) {
      if (!server.listening) continue
      // Until its `listen()` is over, Fastify reads the address again for its secondary servers, and throws where there is none.
      if (starting.has(server)) restoreListen.push(keepAddress(server))
      NetServer.prototype.close.call(server)
    }
  }
}

/**
 * From here on Linux drops the SYN of whoever finds one in the queue; it is sent again, and finds the listener closed: a second
 * later, but refused, which every proxy takes elsewhere. Of 40 restarts under 30 clients that connect without a pause
 * 1 104 connections were reset without this, 5 with it. A listening socket takes a new length (listen(2)); Node's handle has
 * the method, and no public name. Not for a socket in the file system: there a connect to a full queue fails at once.
 */
function shortenQueue (server: NetServer): void {
  if (typeof server.address() === 'object') setQueueLength(server, 0)
}

function restoreAll (restores: (() => void)[]): void {
  for (const restore of restores.splice(0).reverse()) restore()
}
