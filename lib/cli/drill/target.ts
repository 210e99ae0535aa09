/** Finds where the server answers, and waits until it is ready. */
import { after, now } from '../../util/time'
import { CannotRunError } from './cannot-run'
import type { DrillRequest } from './exchange'
import { addressesOf, isLoopback, reachable } from './hosts'
import type { Interruption } from './interruption'
import { findListeners, formatListener } from './listeners'
import { endedEarly, notReady } from './not-ready'
import { documentPaths, pathsOf } from './openapi'
import type { DrillOptions } from './options'
import { probe } from './probe'
import type { Server } from './server'
import type { Address } from './socket'

/** Where the server answers. */
export interface Target {
  readonly address: Address
  /** The header `Host`. */
  readonly host: string
  readonly url: string
}

/** Longest wait for one answer while the server is looked for, in milliseconds. */
const probeTimeout = 5_000

/** Longest wait for the other ports when one has answered, in milliseconds. */
const othersTimeout = 1_000

/** How often the server is looked for, in milliseconds. */
const lookInterval = 50

/** Statuses of a server that is not ready, or of a proxy in front of it. */
const unavailableStatuses = new Set([502, 503, 504])

/**
 * Waits until the server answers with another status than 502, 503 and 504.
 *
 * @throws CannotRunError if it ends before, or does not answer in time
 */
export async function findTarget (server: Server, options: DrillOptions, interruption: Interruption): Promise<Target> {
  const began = now()
  const request = options.plan.requests[0] ?? { method: 'GET', path: '/' }
  const fixed = options.url === null ? null : await interruption.wait(addressesOf(options.url, options.allowedHosts))
  let seen: readonly Address[] = []
  let unavailable = false
  let secondLook = false
  for (;;) {
    if (server.end !== null) throw new CannotRunError(endedEarly(server))
    const addresses = fixed ?? (await interruption.wait(listeners(server))).flatMap(reachable)
    seen = addresses
    const left = began + options.readyMs - now()
    const found = await interruption.wait(answering(
      addresses.filter(({ host }) => fixed !== null || isLoopback(host) || options.allowedHosts.includes(host)),
      options.url?.host ?? null, request, Math.max(500, Math.min(probeTimeout, left))
    ))
    const best = found.find(({ status }) => !unavailableStatuses.has(status))
    // A second look: another port of the server may answer a moment later.
    if (best !== undefined && (fixed !== null || secondLook || now() - began >= options.readyMs)) return best.target
    secondLook = best !== undefined
    unavailable ||= found.length > 0
    if (now() - began >= options.readyMs) throw new CannotRunError(await notReady(options, seen, unavailable))
    await interruption.pause(lookInterval)
  }
}

/** Lists the listening sockets of the server and its children. */
export function listeners (server: Server): Promise<Address[]> {
  return findListeners([server.pid, ...server.tree.descendants()])
}

/** Returns the addresses that answer HTTP: those with a status below 400 first, then by port. */
async function answering (
  addresses: readonly Address[], givenHost: string | null, request: DrillRequest, ms: number
): Promise<Array<{ readonly status: number, readonly target: Target }>> {
  const others = new AbortController()
  let cancel = (): void => {}
  const results = await Promise.all(addresses.map(async address => {
    const host = givenHost ?? formatListener(address)
    const result = await probe(address, host, request, ms, others.signal)
    if (result === null) return []
    // Another port of the server may speak another protocol, and never answer.
    if (result.head.status < 400) cancel = after(othersTimeout, () => others.abort(), { keepAlive: false })
    return [{ status: result.head.status, target: { address, host, url: `http://${host}` } }]
  }))
  cancel()
  return results.flat().sort((a, b) => Number(a.status >= 400) - Number(b.status >= 400))
}

/** Chooses the requests: those of the plan, or the operations of the OpenAPI document that answer, or `GET /`. */
export async function chooseRequests (
  target: Target, planned: readonly DrillRequest[]
): Promise<readonly DrillRequest[]> {
  if (planned.length > 0) return planned
  for (const path of documentPaths) {
    const document = await probe(target.address, target.host, { method: 'GET', path }, 2_000)
    if (document?.head.status !== 200) continue
    const requests = pathsOf(document.body).map(path => ({ method: 'GET', path }))
    const answers = await Promise.all(requests.map(request => probe(target.address, target.host, request, 2_000)))
    // An operation that needs a login or that fails shows nothing.
    const chosen = requests.filter((_, index) => (answers[index]?.head.status ?? 500) < 400)
    if (chosen.length > 0) return chosen
  }
  return [{ method: 'GET', path: '/' }]
}
