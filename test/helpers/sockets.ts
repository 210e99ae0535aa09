/** Records the sockets that this process opens, so that a test sees what a client leaves behind, whatever its driver says. */
import net from 'node:net'
import type { Test } from 'tap'

/** Sockets that belong to the test itself, such as those of a proxy between the client and its server. */
const ignored = new WeakSet<net.Socket>()

/** The sockets that are recorded in the test that runs now. */
let current: ReadonlySet<net.Socket> = new Set()

/** Leaves out every socket that has been recorded so far: the sockets of another client, which the test needs for itself. */
export function ignoreRecordedSockets (): void {
  for (const socket of current) ignored.add(socket)
}

/** Leaves a socket of the test itself out of every record. @returns the socket */
export function ignoreSocket (socket: net.Socket): net.Socket {
  ignored.add(socket)
  return socket
}

/**
 * Records each socket that connects from now on, until the test is over.
 * @returns a function that lists those that are not destroyed
 */
export function recordSockets (t: Test): () => net.Socket[] {
  const recorded = new Set<net.Socket>()
  current = recorded
  const { connect } = net.Socket.prototype
  net.Socket.prototype.connect = function (this: net.Socket, ...args: unknown[]): net.Socket {
    recorded.add(this)
    return Reflect.apply(connect, this, args) as net.Socket
  } as typeof connect
  t.teardown(() => {
    net.Socket.prototype.connect = connect
    current = new Set()
  })
  return () => [...recorded].filter(socket => !socket.destroyed && !ignored.has(socket))
}
