/** Explains why a server did not become ready, in one line. */
import tls from 'node:tls'
import { after } from '../../util/time'
import { isLoopback } from './hosts'
import { formatListener } from './listeners'
import type { DrillOptions } from './options'
import type { Server } from './server'
import type { Address } from './socket'

/** Longest wait for a TLS handshake, in milliseconds. */
const handshakeTimeout = 3_000

/** Returns why the process ended before it answered a request. The last error in its output is part of it. */
export function endedEarly ({ end, output, owned, pid }: Server): string {
  const lines = output.split('\n')
    .map(line => line.replace(/\p{Cc}/gu, ' ').trimEnd())
    .filter(line => line !== '' && !/^\s+at /.test(line))
  // The last error, because a stack or a version follows it.
  const last = (lines.findLast(line => /error/i.test(line)) ?? lines.at(-1) ?? '').trim().slice(0, 200)
  const how = end!.signal === null ? (end!.code === null ? '' : ` with exit code ${end!.code}`) : ` by ${end!.signal}`
  const subject = owned ? 'the command' : `process ${pid}`
  return `${subject} ended early${how}, before it answered a request${last === '' ? '' : `: ${last}`}`
}

/** Returns why the server did not become ready. @param seen the addresses on which it listens */
export async function notReady (
  { readyMs, url, allowedHosts }: DrillOptions, seen: readonly Address[], unavailable: boolean
): Promise<string> {
  const time = `in ${readyMs / 1_000} s`
  if (unavailable) return `the server answered 502, 503 or 504 only, ${time}`
  const names = seen.map(formatListener).join(' and ')
  if (seen.length === 0) return `the command does not listen on a TCP port ${time}`
  const [foreign] = seen.filter(({ host }) => !isLoopback(host) && !allowedHosts.includes(host))
  if (url === null && foreign !== undefined && seen.length === 1) {
    return `the server listens on ${names} only, which is not the loopback address: ` +
      `allow it with --allow-host ${foreign.host}`
  }
  const secure = await Promise.all(seen.map(speaksTls))
  if (secure.includes(true)) {
    return `the server at ${names} uses TLS, which the drill does not support: start it without TLS`
  }
  return `no HTTP/1 answer from ${names} ${time}`
}

/** Returns whether a server uses TLS. */
function speaksTls (address: Address): Promise<boolean> {
  return new Promise(resolve => {
    const socket = tls.connect({ ...address, rejectUnauthorized: false })
    const settle = (secure: boolean): void => {
      cancel()
      socket.destroy()
      resolve(secure)
    }
    const cancel = after(handshakeTimeout, () => settle(false))
    socket.once('secureConnect', () => settle(true))
    // A server that answers with an alert also uses TLS.
    socket.on('error', (error: NodeJS.ErrnoException) => settle(/ALERT/i.test(error.code ?? '')))
    socket.once('close', () => settle(false))
  })
}
