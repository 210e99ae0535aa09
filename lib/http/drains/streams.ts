/**
 * The drain of streaming answers: the headers are sent, and the body is not over. Streams of `shutdown.stream()` end by
 * themselves when draining begins. The others are cut after the timeout of this drain. A stream with a category has the
 * timeout of its category, and the drain of requests cuts it.
 */
import type { InFlight } from '../../../types/index'
import { inTime } from '../../util/time'
import type { InFlightTable } from '../in-flight'
import type { Drain } from './drain'

/**
 * Creates the drain of streaming answers.
 *
 * @param timeout longest time of all streams, in milliseconds
 * @param onCut called for each stream that is cut
 */
export function createStreamsDrain (table: InFlightTable, timeout: number, onCut: (entry: InFlight) => void): Drain {
  return {
    name: 'streams',
    timeout,
    beginDraining () {},
    async drain (ms) {
      if (await inTime(ms, table.untilAnswered())) return 'clean'
      const cut = await table.cut(entry => entry.kind === 'stream' && entry.category === null)
      cut.forEach(onCut)
      return cut.length === 0 ? 'clean' : 'forced'
    },
    pending: () => table.list()
      .filter(entry => entry.kind === 'stream')
      .map(({ method, route }) => `stream ${method} ${route || '(no route)'}`)
  }
}
