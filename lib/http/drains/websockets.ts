/**
 * WebSockets, and whatever else was upgraded: Node hands the socket over and knows no more of it, so `server.close()` waits
 * for it for ever and `closeAllConnections()` does not reach it.
 *
 * Open ones get a last message where there is one to give, and the close frame 1001, "going away" (RFC 6455, section 7.4.1).
 * Who does not answer it in time is terminated.
 */
import { Server as HttpServer, type IncomingMessage, type Server } from 'node:http'
import { Server as HttpsServer } from 'node:https'
import { Socket } from 'node:net'
import { turn, within } from '../../util/time'
import { isInsideMessage, webSocketOf, type WebSocketLike } from '../../util/node-internals'
import { afterMessage, watchWrites } from '../../util/replaced-methods'
import type { Drain } from './drain'
import { followFrames, type Frames } from './websocket-frames'
import { createDeferred } from '../../util/deferred'

export interface WebSocketsDrain extends Drain {
  attach(server: Server): void
  readonly active: number
  sockets(): Iterable<Socket>
  counts(): { readonly closed: number, readonly terminated: number }
}

interface Upgraded {
  /** What the connection was upgraded to, as its client named it. */
  readonly protocol: string
  /** `null` where it is no WebSocket. */
  readonly frames: Frames | null
  told: boolean
}

export interface WebSocketsOptions {
  /** Longest time for all of them, in milliseconds. */
  readonly timeout: number
  /** The last one, where there is one to give. */
  readonly message: string | Buffer | undefined
  /** The whole answer to a CONNECT that comes while draining. */
  readonly refuse: () => string
  readonly onTerminate: (name: string) => void
  readonly onProblem: (message: string, error: unknown) => void
}

const goingAway = 1001
const reason = 'server shutdown'
/** FIN and opcode 8, two bytes of payload, the code. A server does not mask (RFC 6455, sections 5.1 and 5.5.1). */
const closeFrame = Buffer.from([0x88, 0x02, goingAway >> 8, goingAway & 0xff])

export function webSocketsDrain ({ timeout, message, refuse, onTerminate, onProblem }: WebSocketsOptions): WebSocketsDrain {
  const upgraded = new Map<Socket, Upgraded>()
  const servers = new Set<Server>()
  const count = { closed: 0, terminated: 0 }
  let told = false
  let empty = createDeferred<void>()
  const listeners = {
    upgrade (req: IncomingMessage & { upgrade?: boolean }, socket: Socket) {
      // Node has said so of its own; the one of @fastify/websocket's injectWS is a plain object.
      req.upgrade = true
      follow(socket, req.headers.upgrade ?? 'unknown')
    },
    connect: (_req: IncomingMessage, socket: Socket) => follow(socket, 'CONNECT')
  }

  return {
    name: 'websockets',
    timeout,
    attach (server) {
      servers.add(server)
      if (told) return refuseOn(server)
      for (const event of eventsOf(server)) if (server.listenerCount(event) > 0) server.prependListener(event, listeners[event])
      server.on('newListener', onNewListener)
    },
    get active () { return upgraded.size },
    sockets: () => upgraded.keys(),
    tell () {
      told = true
      for (const server of servers) refuseOn(server)
      for (const [socket, entry] of upgraded) {
        sayGoodbye(socket, entry)
        // injectWS of @fastify/websocket has no connection, and so none that could end.
        if (!(socket instanceof Socket)) upgraded.delete(socket)
      }
    },
    async drain (ms) {
      if (upgraded.size === 0) return 'clean'
      const settled = await within(ms, () => empty.promise)
      if (settled.status !== 'late') return 'clean'
      const left = [...upgraded]
      upgraded.clear()
      for (const [socket, { protocol }] of left) {
        count.terminated++
        socket.destroy()
        onTerminate(protocol)
      }
      return 'forced'
    },
    inside: () => Array.from(upgraded.values(), ({ protocol }) => `upgraded connection (${protocol})`),
    counts: () => ({ ...count })
  }

  /** We listen only while somebody else does: alone, our listener would turn every upgrade into one that nobody answers. */
  function onNewListener (this: Server, event: string | symbol, listener: (...args: never[]) => void): void {
    if (event !== 'upgrade' && event !== 'connect') return
    const ours = listeners[event]
    if (listener === ours || !eventsOf(this).includes(event) || this.listeners(event).includes(ours)) return
    this.prependListener(event, ours)
  }

  /**
   * Without a listener Node takes an upgrade for a request, and our 503 answers it. With one it would be nobody's: a reply to
   * an upgrade that is refused late never ends its socket. A CONNECT without a listener is cut without an answer.
   */
  function refuseOn (server: Server): void {
    server.removeListener('newListener', onNewListener)
    for (const event of eventsOf(server)) {
      const heard = server.listenerCount(event) > 0
      server.removeAllListeners(event)
      if (heard && event === 'connect') server.on('connect', (_req, socket) => { socket.on('error', () => socket.destroy()).end(refuse(), () => socket.destroy()) })
    }
  }

  function follow (socket: Socket, protocol: string): void {
    // A secondary server hands its upgrades on to the main one.
    if (upgraded.has(socket)) return
    const frames = protocol.toLowerCase() === 'websocket' ? followFrames() : null
    const entry: Upgraded = { protocol, frames, told: false }
    upgraded.set(socket, entry)
    socket.once('close', forget)
    if (frames !== null) watch(socket, entry, frames)
  }

  /** Follow what the app writes, until ws turns out to be the one who writes: it knows itself where its frames end. */
  function watch (socket: Socket, entry: Upgraded, frames: Frames): void {
    let known = false
    const stopWatching = watchWrites(socket, chunk => {
      if (!known && !frames.opening) {
        known = true
        if (webSocketOf(socket) !== undefined) stopWatching()
      }
      frames.push(chunk)
      // Whoever writes the handshake goes on to make the WebSocket in the same turn.
      if (told && !entry.told) void turn().then(() => sayGoodbye(socket, entry))
    })
  }

  function forget (this: Socket): void {
    if (!upgraded.delete(this)) return
    if (told) count.closed++
    if (upgraded.size > 0) return
    empty.resolve()
    empty = createDeferred()
  }

  function sayGoodbye (socket: Socket, entry: Upgraded): void {
    const { frames } = entry
    // Another protocol has an end of its own; it has this stage's time for it.
    if (frames === null || entry.told) return
    const webSocket = webSocketOf(socket)
    if (webSocket !== undefined) {
      entry.told = true
      closeOnce(webSocket)
    } else if (frames.between && socket.writable) {
      // Some other implementation.
      entry.told = true
      socket.write(closeFrame)
    }
    // Else in the middle of its handshake or of a message: `watch` asks again when more of it is written.
  }

  function closeOnce (webSocket: WebSocketLike): void {
    if (webSocket.readyState !== 1) return // closing already
    if (isInsideMessage(webSocket)) return afterMessage(webSocket, () => closeOnce(webSocket))
    attempt(() => { if (message !== undefined) webSocket.send(message) })
    attempt(() => webSocket.close(goingAway, reason))
  }

  /** The app may have put methods of its own in the place of these. What one of them throws must not keep the others waiting. */
  function attempt (say: () => void): void {
    try {
      say()
    } catch (error) {
      onProblem('A WebSocket could not be told', error)
    }
  }
}

/** What takes a connection away from HTTP. With HTTP/2 a CONNECT is a stream like others, and its event has other arguments. */
function eventsOf (server: Server): ('upgrade' | 'connect')[] {
  const each: object = server
  return each instanceof HttpServer || each instanceof HttpsServer ? ['upgrade', 'connect'] : ['upgrade']
}
