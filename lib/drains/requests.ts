/** Requests in flight: all that was accepted is answered, as long as their time lasts. */
import type { Drain } from '../drain'
import { within } from '../deadline'
import type { InFlightTable } from '../inflight'
import type { InFlight } from '../../types/index'

export function requestsDrain (table: InFlightTable, timeout: number, onCut: (entry: InFlight) => void): Drain {
  return {
    name: 'requests',
    timeout,
    discourage: () => table.sayClose(),
    tell: () => table.sayClose(),
    async drain (ms) {
      const settled = await within(ms, () => table.served())
      if (settled.status !== 'late') return 'clean'
      const cut = await table.cut(entry => entry.kind === 'request')
      cut.forEach(onCut)
      return cut.length === 0 ? 'clean' : 'forced'
    },
    inside: () => table.list().filter(entry => entry.kind === 'request').map(nameOf)
  }
}

function nameOf ({ method, route, ageMs }: InFlight): string {
  return `${method} ${route || '(no route)'}${ageMs === null ? '' : ` for ${Math.round(ageMs)} ms`}`
}
