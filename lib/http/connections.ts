/** The open connections of all servers. A connection is in the list from its accept until its close. */
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { kConnection } from '../symbols'
import { createLinkedList, type Linked } from '../util/linked-list'
import { plainSocketOf } from '../util/node-internals'
import { now } from '../util/time'
import type { Entry } from './in-flight-entry'

/** One connection. It is created once, with all its fields. */
export interface Connection extends Linked<Connection> {
  readonly socket: Socket
  /** The time at which it was accepted, by the clock of `util/time.ts`. */
  readonly since: number
  /** Whether a request has arrived on it. */
  isUsed: boolean
  /** Whether the last request on it was on the fast path: see `fast-path.ts`. */
  usesFastPath: boolean
  /**
   * The time at which the last HTTP/2 answer on it was over, by the same clock. The kernel may still hold a part of
   * this answer.
   */
  answeredAt: number
  /** Pipelined answers that wait for the answer before them, in order; `null` if there never was one. */
  queued: Set<Entry> | null
}

/** The open connections. */
export interface Connections {
  /** Follows the connections of a server. @param open connections that were accepted before */
  attach(server: Server, open?: readonly Socket[]): void
  /** No longer follows the connections of a server. @returns the open ones */
  detach(server: Server): Socket[]
  /** Returns the connection of a socket. */
  of(socket: Socket | null): Connection | undefined
  /** Returns all connections. The array does not change later. */
  all(): Connection[]
}

/** A socket with its connection. */
type Followed = Socket & { [kConnection]?: Connection | undefined }

/**
 * Creates an empty list.
 *
 * @param onClose called when a connection closes, before the `close` listeners of the answer that was being sent
 */
export function createConnections (onClose: (connection: Connection) => void): Connections {
  const list = createLinkedList<Connection>()

  return {
    attach (server, open = []) {
      server.on('connection', follow)
      server.on('secureConnection', followSecure)
      open.forEach(follow)
    },
    detach (server) {
      server.removeListener('connection', follow)
      server.removeListener('secureConnection', followSecure)
      const connections = list.toArray()
      for (const connection of connections) {
        const socket: Followed = connection.socket
        list.remove(connection)
        socket[kConnection] = undefined
        socket.removeListener('close', forget)
      }
      return connections.map(({ socket }) => socket)
    },
    of: (socket: Followed | null) => socket?.[kConnection],
    all: list.toArray
  }

  function follow (socket: Followed): void {
    if (socket[kConnection] !== undefined) return
    const connection: Connection = {
      socket,
      since: now(),
      isUsed: false,
      usesFastPath: false,
      answeredAt: -Infinity,
      queued: null,
      previous: null,
      next: null
    }
    socket[kConnection] = connection
    list.add(connection)
    socket.on('close', forget)
  }

  /** The TLS socket replaces the plain one, because requests arrive on it. */
  function followSecure (socket: Socket): void {
    const plain = plainSocketOf(socket)
    if (plain !== undefined) forget.call(plain)
    follow(socket)
  }

  function forget (this: Followed): void {
    const connection = this[kConnection]
    if (connection === undefined) return
    list.remove(connection)
    this[kConnection] = undefined
    onClose(connection)
  }
}
