/**
 * The drain of requests. Each accepted request may run until its timeout, then it is cut. Each category has its own
 * timeout, so the drain takes as long as the longest category in flight.
 */
import type { InFlight, Outcome } from '../../../types/index'
import { inTime, now } from '../../util/time'
import type { InFlightTable } from '../in-flight'
import type { Drain } from './drain'

/**
 * Creates the drain of requests.
 *
 * @param timeout longest time of a request without a category, in milliseconds
 * @param streamTimeout longest time of a streaming answer without a category, in milliseconds. A stream that begins
 *   after that time is cut by this drain.
 * @param categories name -> timeout, in milliseconds
 * @param onCut called for each request that is cut
 */
export function createRequestsDrain (
  table: InFlightTable,
  timeout: number,
  streamTimeout: number,
  categories: ReadonlyMap<string, number>,
  onCut: (entry: InFlight) => void
): Drain {
  const timeoutOf = ({ category }: InFlight): number => (category === null
    ? undefined
    : categories.get(category)) ?? timeout
  const steps = [...new Set([timeout, ...categories.values()])].sort((a, b) => a - b)

  return {
    name: 'requests',
    timeout: steps.at(-1)!,
    enterLameDuck: () => table.announceClose(),
    beginDraining: () => table.announceClose(),
    async drain (ms) {
      const began = now()
      let outcome: Outcome = 'clean'
      for (const step of steps) {
        const time = Math.min(step, ms)
        if (await inTime(Math.max(0, began + time - now()), table.untilAnswered())) return outcome
        const isLate = (entry: InFlight): boolean => Math.min(timeoutOf(entry), ms) <= time
        const isOurs = ({ kind, category }: InFlight): boolean => kind === 'request' ||
          category !== null ||
          streamTimeout <= time
        const cut = await table.cut(entry => isLate(entry) && isOurs(entry))
        cut.forEach(onCut)
        if (cut.length > 0) outcome = 'forced'
      }
      return outcome
    },
    pending: () => table.list().filter(entry => entry.kind === 'request').map(nameOf)
  }
}

function nameOf ({ method, route, ageMs }: InFlight): string {
  return `${method} ${route || '(no route)'}${ageMs === null ? '' : ` for ${Math.round(ageMs)} ms`}`
}
