/**
 * The servers of one host. Fastify starts a second server if the host is `localhost`, which is the default, and has a
 * second address. `app.server` is only the first server, so the second one would not be drained (fastify#7043).
 */
import type { Server as NetServer } from 'node:net'
import type { IncomingMessage, Server as HttpServer, ServerResponse } from 'node:http'
import { closeListener, isServer } from '../util/node-internals'
import { keepAddress, keepConnections, failListen } from '../util/replaced-methods'
import { sleep, turn } from '../util/time'
import { createAcceptQueue } from './accept-queue'
import type { InFlightTable } from './in-flight'
import type { Rejection } from './rejection'
import { createSharedServers, isShared, type Handover } from './shared-servers'

/** The servers of the host, and the handlers of their requests. */
export interface HostServers {
  /** The server that exists before the host listens. */
  readonly main: HttpServer
  /** Returns the servers that exist now, the main one first. */
  all(): readonly unknown[]
  /**
   * Returns the handler of the requests that arrive while draining. Called when draining begins, before every other
   * listener is removed from the servers.
   */
  handler(inFlight: InFlightTable, rejection: Rejection): (req: IncomingMessage, res: ServerResponse) => void
  /** Whether a request is still served while draining. `null` if only the handler can decide it. */
  readonly isExempt: ((req: IncomingMessage) => boolean) | null
}

/** The servers of one app. */
export interface Servers {
  /**
   * Adds the main server and the secondary servers. Call it when `listen()` is over, because Fastify has started them
   * then.
   */
  refresh(): void
  /** Adds a server that was found through a request. */
  add(server: unknown): void
  /** Whether another app has taken over the server: see `shared-servers.ts`. */
  readonly handedOver: boolean
  /** Whether any server listens. */
  readonly listening: boolean
  /**
   * Stops listening and does nothing else. `http.Server.close()` would also close idle connections, truncate answers
   * that are ended but not flushed, and stop the checks for slow headers.
   *
   * Before that, the accept queue is emptied, for at most `turns` turns of the event loop. If a `listen()` is not over
   * yet, its server stops listening when it is over.
   */
  stopListening(turns?: number): Promise<void>
  /**
   * From now on, a request with `Expect: 100-continue` gets its 503 without an interim `100 Continue`, also if the app
   * has a listener for it.
   */
  answerExpectations(): void
  /**
   * From now on, every `listen()` fails, also a `listen()` that waits for the boot.
   *
   * @param reason resolves to the error when `listen()` may fail. Many apps end the process if `listen()` fails, which
   *   must not happen during the shutdown. After that, `listen` and `address` of the servers are restored.
   */
  failListen(reason: Promise<Error>): void
  /**
   * Disables `server.closeIdleConnections()`, which truncates answers that are not flushed. `http.Server.close()` calls
   * it.
   */
  disableCloseIdleConnections(): void
  /** Enables `server.closeIdleConnections()` again. */
  enableCloseIdleConnections(): void
}

/** Time for a cluster worker's message that it no longer listens to reach the primary, in milliseconds. */
const closeMessageTime = 100

/**
 * Creates an empty list of servers. `refresh` adds the first ones.
 *
 * @param inCluster whether this is a worker of node:cluster, because its sockets belong to the primary
 * @param attach called for each server that is added, with what is open on a server that had another app before
 * @param detach called for a server that another app takes over
 */
export function createServers (
  host: Pick<HostServers, 'all'>,
  inCluster: boolean,
  attach: (server: HttpServer, open: Handover) => void,
  detach: (server: HttpServer) => Handover
): Servers {
  const servers = new Set<HttpServer>()
  /** Servers that listen, while Fastify's `listen()` is not over. */
  const starting = new Set<NetServer>()
  const acceptQueue = createAcceptQueue(inCluster)
  const onListening = function (this: NetServer): void { starting.add(this) }
  const shared = createSharedServers(leave)
  let stopped = false
  /** Restores `closeIdleConnections`. */
  const restoreIdle: (() => void)[] = []
  /** Restores `listen` and `address`, once the app has closed. */
  const restoreListen: (() => void)[] = []

  const self: Servers = {
    refresh () {
      for (const server of host.all()) self.add(server)
      starting.clear()
      servers.forEach(shared.rememberUpgrades)
      if (stopped) close()
    },
    add (server) {
      if (!isServer(server) || servers.has(server)) return
      servers.add(server)
      const open = shared.takeOver(server)
      acceptQueue.attach(server)
      server.on('listening', onListening)
      attach(server, open)
    },
    get handedOver () { return shared.handedOver },
    get listening () {
      for (const server of servers) if (server.listening) return true
      return false
    },
    async stopListening (turns = 50) {
      await acceptQueue.empty(ours(), turns)
      stopped = true
      if (!ours().some(server => server.listening)) return
      close()
      // The primary of a cluster may have sent a connection that has not arrived. Node returns it, because this server
      // is closed, and the primary sends it to another worker. If this worker has exited, the connection is not
      // returned, and its client waits without end.
      if (inCluster) await sleep(closeMessageTime)
    },
    answerExpectations () {
      for (const server of servers) {
        for (const event of ['checkContinue', 'checkExpectation']) {
          // Without a listener, Node answers an unknown expectation with 417.
          if (event === 'checkExpectation' && server.listenerCount(event) === 0) continue
          server.removeAllListeners(event)
          server.on(event, answerExpectation)
        }
      }
    },
    failListen (reason) {
      for (const server of ours()) restoreListen.push(failListen(server, reason))
      // `reason` resolves at the end of `app.close()`, which settles in the same turn of the event loop.
      void reason.then(turn).then(() => restoreAll(restoreListen))
      void reason.then(() => { for (const server of servers) if (isShared(server)) leave(server) })
    },
    disableCloseIdleConnections () {
      for (const server of servers) restoreIdle.push(keepConnections(server))
    },
    enableCloseIdleConnections () {
      restoreAll(restoreIdle)
    }
  }
  return self

  /** Returns the servers that no other app uses after this one. */
  function ours (): HttpServer[] {
    return [...servers].filter(server => !isShared(server))
  }

  function leave (server: HttpServer): Handover {
    shared.forget(server)
    servers.delete(server)
    starting.delete(server)
    acceptQueue.detach(server)
    server.removeListener('listening', onListening)
    for (const event of ['checkContinue', 'checkExpectation']) server.removeListener(event, answerExpectation)
    return detach(server)
  }

  function close (): void {
    for (const server of ours()) {
      if (!server.listening) continue
      // Fastify reads the address again for its secondary servers.
      if (starting.has(server)) restoreListen.push(keepAddress(server))
      acceptQueue.restore(server)
      closeListener(server)
    }
  }
}

function answerExpectation (this: HttpServer, req: IncomingMessage, res: ServerResponse): void {
  this.emit('request', req, res)
}

function restoreAll (restores: (() => void)[]): void {
  for (const restore of restores.splice(0).reverse()) restore()
}
