/**
 * Ends the sockets of a client. Many drivers count a client as closed when the last message is written, while its open
 * socket still keeps the process alive and the session visible on the server.
 */
import { turn, within } from '../../util/time'

/** The part of a socket that an adapter uses. */
export interface Socket {
  readonly destroyed: boolean
  destroy (error?: Error): unknown
  once (event: 'close', listener: () => void): unknown
}

/** Sockets of a client. The driver may not have opened them, or may have removed them. */
export type Sockets = Iterable<Socket | null | undefined>

/** Longest time a server may take to close a connection after the client's last message, in milliseconds. */
const serverCloseTimeout = 250

/**
 * Returns the socket of a connection of pg or mysql2. Both fields are private. Public alternative: none. Without them,
 * a frozen server delays the close, and `force` ends nothing.
 */
export function socketOf (connection: unknown): Socket | undefined {
  const { connection: core, stream } = (connection ?? {}) as { connection?: { stream?: Socket }, stream?: Socket }
  return core?.stream ?? stream
}

/** Waits until each socket is closed, and destroys the sockets that the server does not close in time. */
export async function waitForSocketsToClose (sockets: Sockets): Promise<void> {
  const open = openSockets(sockets)
  if (open.length === 0) return
  await within(serverCloseTimeout, () => Promise.all(open.map(closed)))
  for (const socket of open) socket.destroy()
}

/**
 * Destroys each socket, and waits until the driver has rejected the pending work.
 *
 * @param error the reason that the driver gets. @default none
 */
export async function destroySockets (sockets: Sockets, error?: Error): Promise<void> {
  const open = openSockets(sockets)
  const allClosed = Promise.all(open.map(closed))
  for (const socket of open) socket.destroy(error)
  await allClosed
  await turn()
}

function openSockets (sockets: Sockets): Socket[] {
  return [...sockets].filter((socket): socket is Socket => socket != null && !socket.destroyed)
}

function closed (socket: Socket): Promise<void> {
  return new Promise(resolve => { socket.once('close', resolve) })
}
