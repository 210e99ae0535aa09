/**
 * The drain of streaming answers: headers sent, body not over. Streams made with `shutdown.stream()` end by themselves when draining
 * begins. The connections of the others end when the time of this drain is up. Streams with a category have its time, and are cut
 * with its requests.
 */
import type { InFlight } from '../../../types/index'
import { within } from '../../util/time'
import type { InFlightTable } from '../in-flight'
import type { Drain } from './drain'

/**
 * Creates the drain of streaming answers.
 *
 * @param timeout of all of them, in milliseconds
 * @param onCut called for each stream that is cut
 */
export function createStreamsDrain (table: InFlightTable, timeout: number, onCut: (entry: InFlight) => void): Drain {
  return {
    timeout,
    beginDraining () {},
    async drain (ms) {
      const settled = await within(ms, () => table.untilAnswered())
      if (settled.status !== 'late') return 'clean'
      const cut = await table.cut(entry => entry.kind === 'stream' && entry.category === null)
      cut.forEach(onCut)
      return cut.length === 0 ? 'clean' : 'forced'
    },
    pending: () => table.list().filter(entry => entry.kind === 'stream').map(({ method, route }) => `stream ${method} ${route || '(no route)'}`)
  }
}
