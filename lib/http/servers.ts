/**
 * The servers that one Fastify instance listens with. Fastify starts a second server if `listen({ host: 'localhost' })`, which is also
 * the default, finds a second address. `app.server` is only the first one, so the second would not be drained (fastify#7043).
 */
import type { FastifyInstance } from 'fastify'
import { Server as NetServer } from 'node:net'
import type { Server as HttpServer } from 'node:http'
import { secondaryServersOf } from '../util/node-internals'
import { keepAddress, keepConnections, rejectListen } from '../util/replaced-methods'
import { sleep, turn } from '../util/time'
import { createAcceptQueue } from './accept-queue'

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
   * The accept queue is emptied before, for at most `turns` turns of the event loop. If a `listen()` is not over yet, its server
   * stops when it is.
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

/** @param inCluster whether this is a worker of node:cluster, whose sockets belong to its primary */
export function createServers (app: FastifyInstance, inCluster: boolean, attach: (server: HttpServer) => void): Servers {
  const servers = new Set<HttpServer>()
  /** Servers that listen, while Fastify's `listen()` is not over. */
  const starting = new Set<NetServer>()
  const acceptQueue = createAcceptQueue(inCluster)
  let stopped = false
  /** Restores `closeIdleConnections`. */
  const restoreIdle: (() => void)[] = []
  /** Restores `listen` and `address`, once the app has closed. */
  const restoreListen: (() => void)[] = []

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
      acceptQueue.attach(server)
      server.on('listening', () => { starting.add(server) })
      attach(server as HttpServer)
    },
    get listening () {
      for (const server of servers) if (server.listening) return true
      return false
    },
    async stopListening (turns = 50) {
      await acceptQueue.empty(servers, turns)
      stopped = true
      if (!self.listening) return
      close()
      // The primary of a cluster may have sent us a connection that has not arrived. Node returns it because this server is closed, and
      // the primary sends it to another worker. A worker that has exited returns nothing, and the client waits without end.
      if (inCluster) await sleep(handOver)
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
      acceptQueue.restore(server)
      NetServer.prototype.close.call(server)
    }
  }
}

function restoreAll (restores: (() => void)[]): void {
  for (const restore of restores.splice(0).reverse()) restore()
}
