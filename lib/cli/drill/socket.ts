/** Opens the plain sockets of the clients. */
import net from 'node:net'
import { after, now } from '../../util/time'
import { CannotRunError } from './cannot-run'
import type { Ending } from './classes'

/** A numeric address and a port. */
export interface Address {
  /** An IP address, without brackets. */
  readonly host: string
  readonly port: number
}

/** Errors of this machine, and not of the server. */
const ownErrors = new Set(
  ['EADDRNOTAVAIL', 'EMFILE', 'ENFILE', 'ENOBUFS', 'ENETUNREACH', 'EHOSTUNREACH', 'EACCES', 'EPERM']
)

/**
 * Opens a socket.
 *
 * @param abandoned ends the attempt as `pending`
 * @returns the socket, or the ending of a request that finds no connection
 * @throws CannotRunError for an error of this machine
 */
export function openSocket (address: Address, abandoned?: AbortSignal): Promise<net.Socket | Ending> {
  return new Promise((resolve, reject) => {
    const began = now()
    // Half open: a write after the server's FIN shows whether the server has read the request.
    const socket = net.connect({ ...address, allowHalfOpen: true, noDelay: true, autoSelectFamily: false })
    const abandon = (): void => {
      socket.destroy()
      resolve({ kind: 'pending', silentMs: now() - began })
    }
    abandoned?.addEventListener('abort', abandon, { once: true })
    const settle = (): void => {
      abandoned?.removeEventListener('abort', abandon)
      socket.removeAllListeners('error')
      socket.on('error', () => {})
    }
    socket.once('error', (error: NodeJS.ErrnoException) => {
      settle()
      if (error.code === 'ECONNREFUSED') resolve({ kind: 'refused' })
      else if (!ownErrors.has(error.code ?? '')) resolve({ kind: 'reset', began: false })
      else reject(new CannotRunError(`no connection to port ${address.port}: ${error.code}`))
    })
    socket.once('connect', () => {
      settle()
      // A connection to a closed port of this machine can connect to itself: both ends have the same port.
      if (socket.localPort === socket.remotePort && socket.localAddress === socket.remoteAddress) {
        socket.resetAndDestroy()
        resolve({ kind: 'refused' })
      } else resolve(socket)
    })
    if (abandoned?.aborted) abandon()
  })
}

/** Opens a socket in at most `ms` milliseconds. */
export async function openSocketWithin (ms: number, address: Address): Promise<net.Socket | Ending> {
  const controller = new AbortController()
  const cancel = after(ms, () => controller.abort())
  try {
    return await openSocket(address, controller.signal)
  } finally {
    cancel()
  }
}
