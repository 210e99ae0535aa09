/**
 * Connections with no answer on the way. Idle ones are ended first, so that a proxy drops them instead of sending a
 * request into a 503. Silent ones (nothing was ever sent) and half-sent heads may become a request yet: they have until
 * everything else is in. Node would wait for them for ever: after `server.close()` it checks no timeouts any more.
 */
import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { Outcome } from '../../types/index'
import { after, every, turn, within } from '../deadline'
import type { Drain } from '../drain'

export interface ConnectionsDrain extends Drain {
  attach(server: Server): void
  /** The answer to this request ends its connection, maybe while its body is still being sent: let its sender read it. */
  linger(req: IncomingMessage): void
  /** Resolves when no sender is being waited for any more, in `ms` milliseconds at the latest. */
  lingered(ms: number): Promise<void>
  /** Everything else is in, and nobody listens any more: whoever is left is ended. */
  finish(): void
  counts(): { readonly idle: number, readonly silent: number, readonly destroyed: number }
}

/** How often idle connections are ended while they are spread, in milliseconds. */
const spreadStep = 50

/**
 * How long what a refused sender still sends is read and thrown away, in milliseconds. A socket that is closed with bytes
 * unread is reset, and the reset takes the answer away from under its reader (RFC 9112, section 9.6).
 */
const longestLinger = 2_000

export function connectionsDrain (busySockets: () => Set<Socket>): ConnectionsDrain {
  const servers = new Set<Server>()
  const sockets = new Set<Socket>()
  const lingering = new Set<Promise<void>>()
  const count = { idle: 0, silent: 0, destroyed: 0 }
  let stopSpreading = (): void => {}

  return {
    name: 'connections',
    timeout: 0,
    attach (server) {
      servers.add(server)
      server.on('connection', follow)
      server.on('secureConnection', followSecure)
    },
    linger (req) {
      const { socket } = req
      if (req.httpVersionMajor > 1 || typeof socket.destroySoon !== 'function') return
      socket.destroySoon = () => {
        delete (socket as Partial<Socket>).destroySoon
        if (req.complete || socket.destroyed) return socket.destroySoon()
        // Asked twice: by Node when the answer is finished, and by us when it is flushed.
        socket.destroySoon = () => {}
        const over = lingerOn(req, socket)
        lingering.add(over)
        void over.then(() => lingering.delete(over))
      }
    },
    async lingered (ms) {
      if (lingering.size > 0) await within(ms, () => Promise.all(lingering))
    },
    discourage (ms) {
      const queue = idleSince(bytesRead())
      const before = bytesRead()
      const steps = Math.max(1, Math.floor(ms / spreadStep))
      const share = Math.ceil(queue.length / steps)
      if (queue.length === 0) return
      stopSpreading = every(spreadStep, () => {
        endIdle(queue.splice(0, share), before)
        if (queue.length === 0) stopSpreading()
      })
    },
    tell () {
      stopSpreading()
      const before = bytesRead()
      // What is in the kernel's buffers already is a request on its way, and gets its answer.
      void turn().then(() => endIdle(idleSince(before), before))
    },
    drain: async () => 'clean' as Outcome,
    finish () {
      stopSpreading()
      const busy = busySockets()
      for (const socket of sockets) {
        if (busy.has(socket)) count.destroyed++
        else if (socket.bytesRead === 0) count.silent++
        else count.idle++
        socket.destroy()
      }
    },
    inside: () => [],
    counts: () => ({ ...count })
  }

  function follow (socket: Socket): void {
    sockets.add(socket)
    socket.once('close', forget)
  }

  /** The TLS socket takes the plain one's place: it is the one that requests arrive on. */
  function followSecure (socket: TLSSocket & { _parent?: Socket }): void {
    if (socket._parent !== undefined) sockets.delete(socket._parent)
    follow(socket)
  }

  function forget (this: Socket): void {
    sockets.delete(this)
  }

  function bytesRead (): Map<Socket, number> {
    return new Map(Array.from(sockets, socket => [socket, socket.bytesRead]))
  }

  /** Served before and quiet since: no byte of a next request has come, and no answer is on the way. */
  function idleSince (before: ReadonlyMap<Socket, number>): Socket[] {
    const busy = busySockets()
    return Array.from(servers, betweenRequests).flat().filter(socket => before.has(socket) && !busy.has(socket) && !socket.destroyed)
  }

  function endIdle (idle: readonly Socket[], before: ReadonlyMap<Socket, number>): void {
    const busy = busySockets()
    for (const socket of idle) {
      if (socket.destroyed || busy.has(socket) || socket.bytesRead !== before.get(socket)) continue
      count.idle++
      socket.destroySoon()
    }
  }
}

/** End our side, and read on until the other one has said all, is gone, or takes too long. */
function lingerOn (req: IncomingMessage, socket: Socket): Promise<void> {
  return new Promise(resolve => {
    const cancel = after(longestLinger, end)
    socket.once('close', end)
    req.once('end', end)
    socket.end()
    req.resume()

    function end (): void {
      cancel()
      socket.removeListener('close', end)
      req.removeListener('end', end)
      socket.destroy()
      resolve()
    }
  })
}

/**
 * Only Node's parsers know half a head from none. Their list is what `closeIdleConnections()` reads, and is kept under a
 * symbol of its own; where it is missing (HTTP/2 alone), nobody is ended before the others.
 */
function betweenRequests (server: Server): Socket[] {
  const symbol = Object.getOwnPropertySymbols(server).find(each => each.description === 'http.server.connections')
  const connections = symbol === undefined ? undefined : (server as unknown as Record<symbol, { idle?(): { readonly socket: Socket | null }[] } | undefined>)[symbol]
  return (connections?.idle?.() ?? []).flatMap(({ socket }) => socket ?? [])
}
