/** Who is connected: the sockets of all our servers, from the accept to their close. */
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { now } from '../util/time'
import { kConnection } from '../symbols'
import { plainSocketOf } from '../util/node-internals'
import type { Entry } from './in-flight'
import { createLinkedList, type Linked } from '../util/linked-list'

/** One connection. Made once, with all its fields. */
export interface Connection extends Linked<Connection> {
  readonly socket: Socket
  /** When it was accepted, by the clock of `deadline.ts`. */
  readonly since: number
  /** Whether the last request on it was one that passed: see `passing.ts`. */
  passing: boolean
  /** Answers that wait behind another one, in their order; `null` where none ever has. */
  queued: Set<Entry> | null
}

export interface Connections {
  attach(server: Server): void
  of(socket: Socket | null): Connection | undefined
  /** Those that are connected now; who comes or goes meanwhile changes nothing about it. */
  all(): Connection[]
}

type Placed = Socket & { [kConnection]?: Connection | undefined }

/** @param onClose called before anyone who listens to the answer that was on its way */
export function createConnections (onClose: (connection: Connection) => void): Connections {
  const roll = createLinkedList<Connection>()

  return {
    attach (server) {
      server.on('connection', follow)
      server.on('secureConnection', followSecure)
    },
    of: (socket: Placed | null) => socket?.[kConnection],
    all: roll.toArray
  }

  function follow (socket: Placed): void {
    if (socket[kConnection] !== undefined) return
    const connection: Connection = { socket, since: now(), passing: false, queued: null, previous: null, next: null }
    socket[kConnection] = connection
    roll.add(connection)
    socket.on('close', forget)
  }

  /** The TLS socket takes the plain one's place: it is the one that requests arrive on. */
  function followSecure (socket: Socket): void {
    const plain = plainSocketOf(socket)
    if (plain !== undefined) forget.call(plain)
    follow(socket)
  }

  function forget (this: Placed): void {
    const connection = this[kConnection]
    if (connection === undefined) return
    roll.remove(connection)
    this[kConnection] = undefined
    onClose(connection)
  }
}
