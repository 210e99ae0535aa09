/** The option `exempt` of a plain server: which requests are still served while it drains. */
import type { IncomingMessage } from 'node:http'
import type { OnProblem } from '../lifecycle/problems'
import type { HostServers } from './servers'

/** The option: a list of paths, or a function. */
export type Exempt = readonly string[] | ((request: IncomingMessage) => boolean)

/**
 * Creates the function that decides whether a request is exempt.
 *
 * @param onProblem called if the user's function throws. The request is then not exempt
 */
export function createExempt (given: Exempt | undefined, onProblem: OnProblem): HostServers['isExempt'] {
  if (given === undefined) return null
  if (typeof given !== 'function') {
    const paths = new Set(given)
    return req => paths.has(pathOf(req))
  }
  return req => {
    try {
      return given(req) === true
    } catch (error) {
      onProblem("'exempt' failed: the request is not exempt", error)
      return false
    }
  }
}

/** Returns the path of a request, without its query. */
export function pathOf ({ url = '' }: IncomingMessage): string {
  const end = url.indexOf('?')
  return end === -1 ? url : url.slice(0, end)
}
