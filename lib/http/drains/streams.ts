/**
 * Answers that stream: headers out, body not over. Streams made with `shutdown.stream()` end by themselves when draining
 * begins; the others have this stage's time, then their connection ends. Those of a category have its time, and are cut
 * with its requests.
 */
import type { Drain } from './drain'
import { within } from '../../util/time'
import type { InFlightTable } from '../in-flight'
import type { InFlight } from '../../../types/index'

export function streamsDrain (table: InFlightTable, timeout: number, onCut: (entry: InFlight) => void): Drain {
  return {
    name: 'streams',
    timeout,
    tell () {},
    async drain (ms) {
      const settled = await within(ms, () => table.served())
      if (settled.status !== 'late') return 'clean'
      const cut = await table.cut(entry => entry.kind === 'stream' && entry.category === null)
      cut.forEach(onCut)
      return cut.length === 0 ? 'clean' : 'forced'
    },
    inside: () => table.list().filter(entry => entry.kind === 'stream').map(({ method, route }) => `stream ${method} ${route || '(no route)'}`)
  }
}
