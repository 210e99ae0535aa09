/** Which hosts a drill may reach: this machine, and those that the user allows by name. */
import { lookup } from 'node:dns/promises'
import net from 'node:net'
import { CannotRunError } from './cannot-run'
import type { Address } from './connection'

/** Returns whether an IP address or a name is this machine's loopback. */
export function isLoopback (host: string): boolean {
  return host === '::1' || host.toLowerCase() === 'localhost' || (net.isIPv4(host) && host.startsWith('127.'))
}

/**
 * Returns the addresses of a URL. They are numeric, so that each connection goes to the same address.
 *
 * @throws CannotRunError if the host is not allowed or has no address, or if the URL is not plain HTTP
 */
export async function addressesOf (url: URL, allowed: readonly string[]): Promise<Address[]> {
  if (url.protocol === 'https:') {
    throw new CannotRunError(
      `${url.origin} uses TLS, which the drill does not support: use the port of a plain listener`
    )
  }
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const isAllowed = allowed.some(name => name.toLowerCase().replace(/^\[|\]$/g, '') === host.toLowerCase())
  if (!isLoopback(host) && !isAllowed) {
    throw new CannotRunError(`'${host}' is not this machine: allow it with --allow-host ${host}`)
  }
  const found = await lookup(host, { all: true }).catch(() => [])
  const addresses = found.map(({ address }) => address).filter(address => isAllowed || isLoopback(address))
  if (addresses.length === 0) throw new CannotRunError(`'${host}' has no address${isAllowed ? '' : ' on this machine'}`)
  return addresses.map(address => ({ host: address, port: Number(url.port || 80) }))
}

/** Returns the loopback addresses that reach a listening socket. */
export function reachable ({ host, port }: Address): Address[] {
  if (host === '0.0.0.0') return [{ host: '127.0.0.1', port }]
  // It may be dual-stack, or IPv6 alone.
  if (host === '::') return [{ host: '127.0.0.1', port }, { host: '::1', port }]
  return [{ host, port }]
}
