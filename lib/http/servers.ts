/**
 * The servers that one Fastify instance listens with. Fastify starts a second server if `listen({ host: 'localhost' })`, which is also
 * the default, finds a second address. `app.server` is only the first one, so the second would not be drained (fastify#7043).
 */
import type { FastifyInstance } from 'fastify'
import { Server as NetServer, type Socket } from 'node:net'
import type { Server as HttpServer } from 'node:http'
import { secondaryServersOf, setQueueLength } from '../util/node-internals'
import { keepAddress, keepConnections, rejectListen } from '../util/replaced-methods'
import { sleep, turn } from '../util/time'

export interface Servers {
  /** Finds the secondary servers. `listen()` is over, and Fastify has started them. */
  refresh(): void
  /** Adds a server that was found with a request. */
  add(server: unknown): void
  /** Whether any server listens. */
  readonly listening: boolean
  /**
   * Stops listening and does nothing else. `http.Server.close()` would also close idle connections, truncate answers that are ended
   * but not flushed, and stop the checks for slow headers.
   *
   * Connections left in the kernel's accept queue are reset, and a proxy does not retry a POST. So the queue is shortened first, and
   * emptied until a turn of the event loop passes without an accept, or `turns` turns have passed. If a `listen()` is not over
   * yet, its server stops when it is.
   */
  stopListening(turns?: number): Promise<void>
  /** From now on, a request with `Expect: 100-continue` gets its 503 without an interim `100 Continue`. */
  answerExpectations(): void
  /**
   * From now on, `listen()` fails, also one at the end of the boot.
   *
   * @param reason the error. A `listen()` fails when it resolves: an app whose `listen()` fails often ends the process, and that must not
   *   happen during the shutdown. The servers get their own `listen` and `address` back after it.
   */
  rejectListen(reason: Promise<Error>): void
  /** Disables `server.closeIdleConnections()`, which truncates answers that are not flushed. `http.Server.close()` calls it. */
  disableCloseIdleConnections(): void
  /** Enables `server.closeIdleConnections()` again. */
  enableCloseIdleConnections(): void
}

/** How long the message that a worker of a cluster has closed may take to its primary, in milliseconds. */
const handOver = 100

/** @param shared whether other processes may listen on the same sockets */
export function createServers (app: FastifyInstance, shared: boolean, attach: (server: HttpServer) => void): Servers {
  const servers = new Set<HttpServer>()
  /** Servers that listen, while Fastify's `listen()` is not over. */
  const starting = new Set<NetServer>()
  let accepts = 0
  let stopped = false
  /** Restores `closeIdleConnections`. */
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
      // The primary of a cluster may have sent us a connection that has not arrived. Node returns it because this server is closed, and
      // the primary sends it to another worker. A worker that has exited returns nothing, and the client waits without end.
      if (shared) await sleep(handOver)
    },
    answerExpectations () {
      for (const server of servers) {
        if (server.listenerCount('checkContinue') === 0) server.on('checkContinue', (req, res) => server.emit('request', req, res))
      }
    },
    rejectListen (reason) {
      for (const server of servers) restoreListen.push(rejectListen(server, reason))
      // The last step of `app.close()` resolves it, and `app.close()` settles in the same turn of the event loop.
      void reason.then(turn).then(() => restoreAll(restoreListen))
    },
    disableCloseIdleConnections () {
      for (const server of servers) restoreIdle.push(keepConnections(server))
    },
    enableCloseIdleConnections () {
      restoreAll(restoreIdle)
    }
  }
  return self

  function close (): void {
    for (const server of servers) {
      if (!server.listening) continue
      // Fastify reads the address again for its secondary servers.
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
