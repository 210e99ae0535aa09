/**
 * Requests in flight: all that was accepted is answered, as long as its time lasts. Each kind has a time of its own, so the
 * wait is the longest of those that are really in flight.
 */
import type { InFlight, Outcome } from '../../../types/index'
import { now, within } from '../../util/time'
import type { Drain } from './drain'
import type { InFlightTable } from '../in-flight'

/**
 * @param timeout of a request without a category, in milliseconds
 * @param streams of an answer that streams and has no category, in milliseconds; it is cut here where it began after that
 * @param categories name -> time, in milliseconds
 */
export function requestsDrain (table: InFlightTable, timeout: number, streams: number, categories: ReadonlyMap<string, number>, onCut: (entry: InFlight) => void): Drain {
  const timeOf = ({ category }: InFlight): number => (category === null ? undefined : categories.get(category)) ?? timeout
  const steps = [...new Set([timeout, ...categories.values()])].sort((a, b) => a - b)

  return {
    name: 'requests',
    timeout: steps.at(-1)!,
    discourage: () => table.sayClose(),
    tell: () => table.sayClose(),
    async drain (ms) {
      const began = now()
      let outcome: Outcome = 'clean'
      for (const step of steps) {
        const time = Math.min(step, ms)
        const settled = await within(Math.max(0, began + time - now()), () => table.served())
        if (settled.status !== 'late') return outcome
        const cut = await table.cut(entry => Math.min(timeOf(entry), ms) <= time && (entry.kind === 'request' || entry.category !== null || streams <= time))
        cut.forEach(onCut)
        if (cut.length > 0) outcome = 'forced'
      }
      return outcome
    },
    inside: () => table.list().filter(entry => entry.kind === 'request').map(nameOf)
  }
}

function nameOf ({ method, route, ageMs }: InFlight): string {
  return `${method} ${route || '(no route)'}${ageMs === null ? '' : ` for ${Math.round(ageMs)} ms`}`
}
