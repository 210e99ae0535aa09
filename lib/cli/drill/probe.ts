/** Sends one request on a connection of its own, to find out whether the server answers. */
import { after } from '../../util/time'
import type { AnswerHead } from './answer'
import { createConnection } from './connection'
import type { DrillRequest } from './exchange'
import { openSocket, type Address } from './socket'

/** The answer to a probe. */
export interface ProbeResult {
  readonly head: AnswerHead
  readonly body: string
}

/**
 * Sends one request.
 *
 * @param abandoned aborts if the answer is no longer needed
 * @returns `null` if no complete HTTP/1 answer comes within `ms` milliseconds
 */
export async function probe (
  address: Address, host: string, request: DrillRequest, ms: number, abandoned?: AbortSignal
): Promise<ProbeResult | null> {
  const controller = new AbortController()
  const abandon = (): void => controller.abort()
  const cancel = after(ms, abandon)
  abandoned?.addEventListener('abort', abandon, { once: true })
  try {
    const socket = await openSocket(address, controller.signal)
    if ('kind' in socket) return null
    const exchange = createConnection(socket).send(request, host, false)
    controller.signal.addEventListener('abort', () => exchange.abandon(), { once: true })
    const ending = await exchange.ended
    return ending.kind === 'answer' && exchange.head !== null ? { head: exchange.head, body: exchange.body } : null
  } catch {
    // For example, an IPv6 address on a machine without IPv6.
    return null
  } finally {
    cancel()
    abandoned?.removeEventListener('abort', abandon)
  }
}
