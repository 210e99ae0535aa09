/**
 * The drain of connections without an answer in flight.
 *
 * Idle connections are closed first, so that a proxy removes them and sends no request that gets a 503. Silent ones (no byte has
 * arrived) and unfinished request heads may still become a request: they are closed when all other traffic is over. Node would wait
 * for them without end, because it checks no timeouts after `server.close()`.
 */
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import type { Outcome } from '../../../types/index'
import { socketsBetweenRequests } from '../../util/node-internals'
import { now, sleep, spreadOver, turn } from '../../util/time'
import type { Connection, Connections } from '../connections'
import type { Drain } from './drain'

export interface IdleConnectionsDrain extends Drain {
  /** Drains the connections of a server. */
  attach(server: Server): void
  /**
   * Resolves when every connection that was accepted since `enterLameDuck` has sent a byte, in `ms` milliseconds at the latest. Between
   * a proxy's connection and its request a moment may pass, and an accepted request is served, not rejected.
   */
  untilHeard(ms: number): Promise<void>
  /** Closes all connections that are left. All other traffic is over, and the server no longer listens. */
  closeAll(): Promise<void>
  /** Returns how many connections were closed while idle, before their first byte, or with an answer in flight. */
  counts(): { readonly idle: number, readonly silent: number, readonly destroyed: number }
}

/** How often silent connections are checked, in milliseconds. Node emits no event for the first byte of a socket. */
const checkStep = 2

/** How many connections are closed in one turn of the event loop. Each takes about 20 microseconds, mostly in the kernel. */
const burst = 250

/** An idle connection, and how many bytes had arrived when it was found idle: with more of them it is not idle any more. */
interface Idle {
  readonly socket: Socket
  readonly bytesRead: number
}

/**
 * Creates the drain of connections without an answer in flight.
 *
 * @param busySockets returns the sockets that carry an answer, or are upgraded
 */
export function createIdleConnectionsDrain (connections: Connections, busySockets: () => Set<Socket | null>): IdleConnectionsDrain {
  const servers = new Set<Server>()
  const count = { idle: 0, silent: 0, destroyed: 0 }
  /** The sockets that were open when lame-duck began; `null` before. */
  let earlier: WeakSet<Socket> | null = null
  let stopSpreading = (): void => {}
  let idleClosed = Promise.resolve()

  return {
    timeout: 0,
    attach (server) {
      servers.add(server)
    },
    async untilHeard (ms) {
      const isSilent = (): boolean => earlier !== null && open().some(({ socket }) => !earlier!.has(socket) && socket.bytesRead === 0)
      for (const until = now() + ms; isSilent() && now() < until;) await sleep(checkStep)
    },
    enterLameDuck (ms) {
      earlier = new WeakSet(open().map(({ socket }) => socket))
      // A timer runs before the sockets are read: the requests that have arrived are seen one turn later.
      stopSpreading = spreadOver(idleByRate(), ms, some => { void turn().then(() => closeIdle(some)) })
    },
    beginDraining () {
      stopSpreading()
      const idle = findIdle()
      // The bytes in the kernel's buffers now may be a request, which is answered.
      idleClosed = turn().then(() => closeIdle(idle))
    },
    drain: async () => 'clean' as Outcome,
    async closeAll () {
      stopSpreading()
      await idleClosed
      // The caller may be inside the event that ended the last answer, and HTTP/2 writes its last frames after it.
      await turn()
      // Once more for those whose TLS handshake ended in one of the turns between.
      for (let left = open(); left.length > 0; left = open()) {
        await inBursts(left, ({ socket }, isBusy) => {
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

  /** Returns the connections that have been served, on which no byte of a next request has arrived and no answer is in flight. */
  function findIdle (): Idle[] {
    const busy = busySockets()
    // Up to Node 26, a connection that has sent no byte counts as idle, too.
    return Array.from(servers, socketsBetweenRequests).flat()
      .filter(socket => socket.bytesRead > 0 && !busy.has(socket) && !socket.destroyed)
      .map(socket => ({ socket, bytesRead: socket.bytesRead }))
  }

  /**
   * Returns the idle connections, the busiest last: the answer to their next request will have closed most of them by then. A client
   * that uses a connection while it is closed must repeat its request (RFC 9112, section 9.5). Busy is one with many bytes for its age: a
   * connection that has just moved here from another replica has few.
   */
  function idleByRate (): Idle[] {
    const at = now()
    return findIdle()
      .map(idle => ({ ...idle, rate: idle.bytesRead / (at - (connections.of(idle.socket)?.since ?? 0)) }))
      .sort((one, other) => one.rate - other.rate)
  }

  async function closeIdle (idle: readonly Idle[]): Promise<void> {
    await inBursts(idle, ({ socket, bytesRead }, isBusy) => {
      if (isBusy || socket.bytesRead !== bytesRead) return
      count.idle++
      // `end()` would leave a turn of the event loop in which a request may arrive. TLS has to send its close_notify.
      if ('encrypted' in socket) socket.destroySoon()
      else socket.destroy()
    })
  }

  /** Calls `close` for each open connection, some in one turn of the event loop. */
  async function inBursts<T extends { readonly socket: Socket }> (those: readonly T[], close: (one: T, isBusy: boolean) => void): Promise<void> {
    let closed = 0
    let busy = busySockets()
    for (const one of those) {
      if (one.socket.destroyed) continue
      close(one, busy.has(one.socket))
      if (++closed % burst > 0) continue
      await turn()
      busy = busySockets()
    }
  }
}
