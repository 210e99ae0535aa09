/**
 * The drain of connections without an answer in flight.
 *
 * Idle connections are closed first. A proxy then removes them, and sends no request that would get a 503. A request
 * may still arrive on a silent connection (no byte has arrived) or after an unfinished request head. These connections
 * are closed when all other traffic is over. Node would wait for them without end, because it checks no timeouts after
 * `server.close()`.
 */
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import type { Outcome } from '../../../types/index'
import type { OnProblem } from '../../lifecycle/problems'
import { currentResponse, idleTimeOf, loopTime, socketsBetweenRequests } from '../../util/node-internals'
import { now, sleep, spreadOver, turn } from '../../util/time'
import type { Connection, Connections } from '../connections'
import { isShared } from '../shared-servers'
import type { Drain } from './drain'

/** The drain of connections without an answer in flight. */
export interface IdleConnectionsDrain extends Drain {
  /** Drains the connections of a server. */
  attach(server: Server): void
  /** No longer drains the connections of a server. */
  detach(server: Server): void
  /**
   * Resolves when every connection that was accepted since `enterLameDuck` has sent a byte, at the latest after `ms`
   * milliseconds. A proxy may open a connection some time before it sends the request, and a request on an accepted
   * connection is served, not rejected.
   */
  untilFirstBytes(ms: number): Promise<void>
  /** Closes all remaining connections. Call it when all other traffic is over and the server no longer listens. */
  closeAll(): Promise<void>
  /**
   * Returns how many connections were closed while idle (`idle`), before their first byte (`silent`), or with an answer
   * in flight (`destroyed`).
   */
  counts(): { readonly idle: number, readonly silent: number, readonly destroyed: number }
}

/** How often silent connections are checked, in milliseconds. Node emits no event for the first byte of a socket. */
const checkStep = 2

/**
 * Most connections that are closed in one turn of the event loop. Each takes about 20 microseconds, mostly in the
 * kernel.
 */
const burst = 250

/** The age at which a connection may count as in use, in milliseconds. */
const leastAge = 5_000

/** An idle connection, and how many bytes it had received when it was found. With more bytes it is no longer idle. */
interface Idle {
  readonly socket: Socket
  readonly bytesRead: number
}

/**
 * Creates the drain of connections without an answer in flight.
 *
 * @param busySockets returns the sockets with an answer in flight, and the upgraded sockets
 * @param onProblem called for each connection that cannot be closed
 */
export function createIdleConnectionsDrain (
  connections: Connections,
  busySockets: () => Set<Socket | null>,
  onProblem: OnProblem
): IdleConnectionsDrain {
  const servers = new Set<Server>()
  const count = { idle: 0, silent: 0, destroyed: 0 }
  /** The sockets that were open when lame-duck began; `null` before. */
  let earlier: WeakSet<Socket> | null = null
  let stopSpreading = (): void => {}
  let idleClosed = Promise.resolve()

  return {
    name: 'idle connections',
    timeout: 0,
    attach (server) {
      servers.add(server)
    },
    detach (server) {
      servers.delete(server)
    },
    async untilFirstBytes (ms) {
      const isSilent = (): boolean => earlier !== null &&
        open().some(({ socket }) => !earlier!.has(socket) && socket.bytesRead === 0)
      for (const until = now() + ms; isSilent() && now() < until;) await sleep(checkStep)
    },
    enterLameDuck (ms) {
      earlier = new WeakSet(open().map(({ socket }) => socket))
      // A timer runs before the sockets are read. One turn later, the requests that have arrived are read.
      stopSpreading = spreadOver(idleByRate(), ms, some => { void turn().then(() => closeIdle(some)) })
    },
    beginDraining () {
      stopSpreading()
      const idle = findIdle()
      // The kernel's buffers may contain a request. It is read in this turn, and answered.
      idleClosed = turn().then(() => closeIdle(idle))
    },
    drain: async () => 'clean' as Outcome,
    async closeAll () {
      stopSpreading()
      await idleClosed
      // This code may run inside of the event that ended the last answer. HTTP/2 writes its last frames after that
      // event.
      await turn()
      // In a loop, because a TLS handshake may end in between and create one more connection.
      const tried = new Set<Connection>()
      const untried = (): Connection[] => open().filter(connection => !tried.has(connection))
      for (let left = untried(); left.length > 0; left = untried()) {
        await inBursts(left, (connection, isBusy) => {
          const { socket } = connection
          tried.add(connection)
          if (isBusy) count.destroyed++
          else if (socket.bytesRead === 0) count.silent++
          else count.idle++
          socket.destroy()
        })
      }
    },
    pending: () => [],
    counts: () => ({ ...count })
  }

  function open (): Connection[] {
    return connections.all().filter(({ socket }) => !socket.destroyed)
  }

  /**
   * Returns the connections that have been used, have no answer in flight, and have received no byte of a next request.
   */
  function findIdle (): Idle[] {
    const isBusy = whichAreBusy()
    // Up to Node 26, the list also contains connections that have received no byte.
    return [...servers].filter(server => !isShared(server)).flatMap(socketsBetweenRequests)
      .filter(socket => socket.bytesRead > 0 && !isBusy(socket) && !socket.destroyed)
      .map(socket => ({ socket, bytesRead: socket.bytesRead }))
  }

  /**
   * Returns the idle connections that are not in use, sorted by their bytes per millisecond, the busiest last.
   *
   * A connection that is in use closes with the answer to its next request. If a connection closes while its client
   * sends a request, the client must repeat this request (RFC 9112, section 9.5), and a proxy does not repeat a POST.
   * If no request comes, the connection is closed when draining begins, after the load balancer has noticed.
   */
  function idleByRate (): Idle[] {
    const at = now()
    const loop = loopTime()
    return findIdle()
      .map(idle => ({ ...idle, age: at - (connections.of(idle.socket)?.since ?? at) }))
      .filter(({ socket, age }) => !isInUse(age, idleTimeOf(socket, loop)))
      .sort((one, other) => one.bytesRead / one.age - other.bytesRead / other.age)
  }

  async function closeIdle (idle: readonly Idle[]): Promise<void> {
    await inBursts(idle, ({ socket, bytesRead }, isBusy) => {
      if (isBusy || socket.bytesRead !== bytesRead) return
      count.idle++
      // Not `end()`, because a request could arrive in the turn of the event loop after it. TLS must send its
      // close_notify.
      if ('encrypted' in socket) socket.destroySoon()
      else socket.destroy()
    })
  }

  /** Calls `close` for each open connection, at most `burst` in one turn of the event loop. */
  async function inBursts<T extends { readonly socket: Socket }> (
    list: readonly T[], close: (one: T, isBusy: boolean) => void
  ): Promise<void> {
    let closed = 0
    let isBusy = whichAreBusy()
    for (const one of list) {
      if (one.socket.destroyed) continue
      try {
        close(one, isBusy(one.socket))
      } catch (error) {
        onProblem('A connection could not be closed', error)
      }
      if (++closed % burst > 0) continue
      await turn()
      isBusy = whichAreBusy()
    }
  }

  /**
   * Returns a function that finds the sockets with an answer in flight. An answer that the table does not contain,
   * because no listener of ours got its request, is found through its socket.
   */
  function whichAreBusy (): (socket: Socket) => boolean {
    const busy = busySockets()
    return socket => busy.has(socket) || currentResponse(socket) != null
  }
}

/** Returns whether a connection has been idle for less than a quarter of its age, and has reached `leastAge`. */
function isInUse (age: number, idleTime: number | undefined): boolean {
  return idleTime !== undefined && age >= leastAge && idleTime < age / 4
}
