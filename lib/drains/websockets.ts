/**
 * WebSockets, and whatever else was upgraded: Node hands the socket over and knows no more of it, so `server.close()` waits
 * for it for ever and `closeAllConnections()` does not reach it.
 *
 * Open ones get a last message where there is one to give, and the close frame 1001, "going away" (RFC 6455, section 7.4.1).
 * Who does not answer it in time is terminated.
 */
import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'
import { within } from '../deadline'
import type { Drain } from '../drain'
import { later } from '../later'

export interface WebSocketsDrain extends Drain {
  attach(server: Server): void
  readonly active: number
  sockets(): Iterable<Socket>
  counts(): { readonly closed: number, readonly terminated: number }
}

/** The part of ws that we use, whoever made it: @fastify/websocket or the app itself. */
interface WebSocketLike {
  readonly readyState: number
  send(data: string | Buffer): void
  close(code: number, reason: string): void
}

const goingAway = 1001
const reason = 'server shutdown'
/** FIN and opcode 8, two bytes of payload, the code. A server does not mask (RFC 6455, sections 5.1 and 5.5.1). */
const closeFrame = Buffer.from([0x88, 0x02, goingAway >> 8, goingAway & 0xff])

export function webSocketsDrain (timeout: number, message: string | Buffer | undefined, onTerminate: (name: string) => void): WebSocketsDrain {
  const upgraded = new Map<Socket, string>()
  const servers = new Set<Server>()
  const count = { closed: 0, terminated: 0 }
  let told = false
  let empty = later<void>()

  return {
    name: 'websockets',
    timeout,
    attach (server) {
      servers.add(server)
      if (server.listenerCount('upgrade') > 0) server.prependListener('upgrade', follow)
      server.on('newListener', onNewListener)
    },
    get active () { return upgraded.size },
    sockets: () => upgraded.keys(),
    tell () {
      told = true
      for (const server of servers) {
        server.removeListener('newListener', onNewListener)
        // Without a listener Node takes an upgrade for a request, and our 503 answers it. With one it would be nobody's:
        // a reply to an upgrade that is refused late never ends its socket.
        server.removeAllListeners('upgrade')
      }
      for (const [socket, protocol] of upgraded) sayGoodbye(socket, protocol)
    },
    async drain (ms) {
      if (upgraded.size === 0) return 'clean'
      const settled = await within(ms, () => empty.promise)
      if (settled.status !== 'late') return 'clean'
      const left = [...upgraded]
      upgraded.clear()
      for (const [socket, protocol] of left) {
        count.terminated++
        socket.destroy()
        onTerminate(protocol)
      }
      return 'forced'
    },
    inside: () => Array.from(upgraded.values(), protocol => `upgraded connection (${protocol})`),
    counts: () => ({ ...count })
  }

  /** We listen only while somebody else does: alone, our listener would turn every upgrade into one that nobody answers. */
  function onNewListener (this: Server, event: string | symbol, listener: (...args: never[]) => void): void {
    if (event !== 'upgrade' || listener === follow || this.listeners('upgrade').includes(follow)) return
    this.prependListener('upgrade', follow)
  }

  function follow (req: IncomingMessage, socket: Socket): void {
    upgraded.set(socket, req.headers.upgrade ?? 'unknown')
    socket.once('close', forget)
  }

  function forget (this: Socket): void {
    if (!upgraded.delete(this)) return
    if (told) count.closed++
    if (upgraded.size > 0) return
    empty.resolve()
    empty = later()
  }

  function sayGoodbye (socket: Socket, protocol: string): void {
    const webSocket = webSocketOf(socket)
    if (webSocket !== undefined) {
      if (webSocket.readyState !== 1) return // closing already
      if (message !== undefined) webSocket.send(message)
      webSocket.close(goingAway, reason)
    } else if (protocol.toLowerCase() === 'websocket' && socket.writable) {
      // Some other implementation. Between two writes is between two frames, and a control frame may stand there.
      socket.write(closeFrame)
    }
    // Another protocol has an end of its own; it has this stage's time for it.
  }
}

/** ws marks the sockets that it has taken over; there is no public way from one to the other. */
function webSocketOf (socket: Socket): WebSocketLike | undefined {
  const mark = Object.getOwnPropertySymbols(socket).find(symbol => symbol.description === 'websocket')
  return mark === undefined ? undefined : (socket as unknown as Record<symbol, WebSocketLike | undefined>)[mark]
}
