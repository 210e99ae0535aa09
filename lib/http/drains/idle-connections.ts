/**
 * Connections with no answer on the way. Idle ones are ended first, so that a proxy drops them instead of sending a
 * request into a 503. Silent ones (nothing was ever sent) and half-sent heads may become a request yet: they have until
 * everything else is in. Node would wait for them for ever: after `server.close()` it checks no timeouts any more.
 */
import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'
import type { Outcome } from '../../../types/index'
import type { Carrier } from '../response'
import type { Connection, Connections } from '../connections'
import { after, every, now, sleep, turn, within } from '../../util/time'
import { socketsBetweenRequests } from '../../util/node-internals'
import { delayDestroy, dropBody } from '../../util/replaced-methods'
import type { Drain } from './drain'

export interface ConnectionsDrain extends Drain {
  attach(server: Server): void
  /** The answer to this request ends its connection, maybe while its body is still being sent: let its sender read it. */
  linger(carrier: Carrier): void
  /** Resolves when no sender is being waited for any more, in `ms` milliseconds at the latest. */
  lingered(ms: number): Promise<void>
  /**
   * Resolves when whoever connected since `discourage` has begun to say what they want, in `ms` milliseconds at the latest. Between a
   * proxy's connection and its request a moment may pass, and what was accepted should be served, not refused.
   */
  heard(ms: number): Promise<void>
  /** Everything else is in, and nobody listens any more: whoever is left is ended. */
  finish(): Promise<void>
  counts(): { readonly idle: number, readonly silent: number, readonly destroyed: number }
}

/** How often idle connections are ended while they are spread, in milliseconds. */
const spreadStep = 50

/** How often it is looked whether a newcomer has spoken, in milliseconds. Node tells nobody of a socket's first byte. */
const hearingStep = 2

/** How many connections are ended in one turn of the event loop. Each costs some 20 microseconds, most of them the kernel's. */
const atOnce = 250

/**
 * How long what a refused sender still sends is read and thrown away, in milliseconds. A socket that is closed with bytes
 * unread is reset, and the reset takes the answer away from under its reader (RFC 9112, section 9.6).
 */
const longestLinger = 2_000

/** A connection that has been served, and what had come on it by then: one that says more is not idle any more. */
interface Idle {
  readonly socket: Socket
  readonly read: number
}

export function connectionsDrain (connected: Connections, busySockets: () => Set<Socket | null>): ConnectionsDrain {
  const servers = new Set<Server>()
  const lingering = new Set<Promise<void>>()
  const count = { idle: 0, silent: 0, destroyed: 0 }
  /** Who was there when the server began to ask its clients to leave. */
  let settled: WeakSet<Socket> | null = null
  let stopSpreading = (): void => {}
  let told = Promise.resolve()

  return {
    name: 'connections',
    timeout: 0,
    attach (server) {
      servers.add(server)
    },
    linger ({ res: { req }, socket }) {
      if (req.httpVersionMajor > 1 || !hasBody(req) || typeof socket?.destroySoon !== 'function') return
      let asked = false
      // Asked twice: by Node when the answer is out, and by us where it could not say close. The second must not end the wait.
      delayDestroy(socket, () => {
        if (asked) return false
        if (req.complete || socket.destroyed) return true
        asked = true
        const over = lingerOn(req, socket)
        lingering.add(over)
        void over.then(() => lingering.delete(over))
        return false
      })
    },
    async lingered (ms) {
      if (lingering.size > 0) await within(ms, () => Promise.all(lingering))
    },
    async heard (ms) {
      const silent = (): boolean => settled !== null && standing().some(({ socket }) => !settled!.has(socket) && socket.bytesRead === 0)
      for (const until = now() + ms; silent() && now() < until;) await sleep(hearingStep)
    },
    discourage (ms) {
      settled = new WeakSet(standing().map(({ socket }) => socket))
      // The busiest last: by then most of them have had a request, and the answer has closed them. Ending one under a client
      // that is about to use it is a race that only its client can win, by asking again (RFC 9112, section 9.5). Busy is who
      // sends much for its age: who has just come from another replica that restarts has not sent much yet.
      const began = now()
      const queue = idle()
        .map(one => ({ ...one, rate: one.read / (began - (connected.of(one.socket)?.since ?? 0)) }))
        .sort((one, other) => one.rate - other.rate)
      // One step less than there is time for, so that the last of them is gone before draining begins.
      const steps = Math.max(1, Math.floor(ms / spreadStep) - 1)
      const share = Math.ceil(queue.length / steps)
      if (queue.length === 0) return
      stopSpreading = every(spreadStep, () => {
        const next = queue.splice(0, share)
        if (queue.length === 0) stopSpreading()
        // A timer runs before the sockets are read: what has arrived meanwhile is seen one turn later.
        void turn().then(async () => await endIdle(next))
      })
    },
    tell () {
      stopSpreading()
      const those = idle()
      // What is in the kernel's buffers already is a request on its way, and gets its answer.
      told = turn().then(async () => await endIdle(those))
    },
    drain: async () => 'clean' as Outcome,
    async finish () {
      stopSpreading()
      await told
      // Once more for those whose TLS handshake was over in one of the turns between.
      for (let left = standing(); left.length > 0; left = standing()) {
        await inBursts(left, ({ socket }, isBusy) => {
          if (isBusy) count.destroyed++
          else if (socket.bytesRead === 0) count.silent++
          else count.idle++
          socket.destroy()
        })
      }
    },
    inside: () => [],
    counts: () => ({ ...count })
  }

  function standing (): Connection[] {
    return connected.all().filter(({ socket }) => !socket.destroyed)
  }

  /** Served before and quiet now: nothing of a next request has been read, and no answer is on the way. */
  function idle (): Idle[] {
    const busy = busySockets()
    // To Node 26 whoever never sent a byte is idle, too.
    return Array.from(servers, socketsBetweenRequests).flat()
      .filter(socket => socket.bytesRead > 0 && !busy.has(socket) && !socket.destroyed)
      .map(socket => ({ socket, read: socket.bytesRead }))
  }

  async function endIdle (those: readonly Idle[]): Promise<void> {
    await inBursts(those, ({ socket, read }, isBusy) => {
      if (isBusy || socket.bytesRead !== read) return
      count.idle++
      // At once: `end()` leaves a turn of the event loop in which a request may still come. TLS has a goodbye of its own to send.
      if ('encrypted' in socket) socket.destroySoon()
      else socket.destroy()
    })
  }

  async function inBursts<T extends { readonly socket: Socket }> (those: readonly T[], end: (one: T, isBusy: boolean) => void): Promise<void> {
    let ended = 0
    let busy = busySockets()
    for (const one of those) {
      if (one.socket.destroyed) continue
      end(one, busy.has(one.socket))
      if (++ended % atOnce > 0) continue
      await turn()
      busy = busySockets()
    }
  }
}

/** Whether something may still be on its way (RFC 9112, section 6.3). */
function hasBody ({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

/** End our side, and read on until the other one has said all, is gone, or takes too long. */
function lingerOn (req: IncomingMessage, socket: Socket): Promise<void> {
  return new Promise(resolve => {
    const cancel = after(longestLinger, end)
    socket.once('close', end)
    req.once('end', end)
    socket.end()
    // Who reads it for the handler may hold it back, as a pipe to somewhere slow does. They get no more of it, and are told that it broke off.
    const held = req.listenerCount('data') + req.listenerCount('readable') > 0
    if (held) {
      dropBody(req, end)
      socket.resume()
    }
    req.resume()

    function end (): void {
      cancel()
      socket.removeListener('close', end)
      req.removeListener('end', end)
      if (held) req.destroy()
      socket.destroy()
      resolve()
    }
  })
}
