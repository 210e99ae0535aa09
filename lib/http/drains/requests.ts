/**
 * The drain of requests, and of their answers. What exceeds its time is cut:
 *
 * - Without an answer, a request has `timeouts.requests`.
 * - An answer of known length has `timeouts.requests`, and any other answer `timeouts.streams`. If the user did not set
 *   this timeout, an answer that has begun may take all the time that neither resources nor tasks need.
 * - A request with a category has the timeout of its category.
 *
 * Streams of `shutdown.stream()` end by themselves when draining begins.
 */
import type { InFlight, Outcome } from '../../../types/index'
import type { Settings } from '../../options'
import { inTime, now } from '../../util/time'
import type { InFlightTable } from '../in-flight'
import type { Drain } from './drain'

/** Options of the drain. */
export interface RequestsOptions {
  /** Asks the clients of HTTP/1 to leave, with `Connection: close`. */
  readonly announceClose: () => void
  /** Returns whether tasks run. Their time begins when this drain is over. */
  readonly tasksRun: () => boolean
  /** Called for each request that is cut. */
  readonly onCut: (entry: InFlight) => void
}

/** Creates the drain of requests. */
export function createRequestsDrain (
  table: InFlightTable,
  { timeouts, givenTimeouts, categories }: Pick<Settings, 'timeouts' | 'givenTimeouts' | 'categories'>,
  { announceClose, tasksRun, onCut }: RequestsOptions
): Drain {
  const isLimited = givenTimeouts.has('requests') && givenTimeouts.has('streams')

  return {
    name: 'requests',
    // A getter, because lame-duck changes the timeouts at its end.
    get timeout () {
      return isLimited ? Math.max(timeouts.requests, timeouts.streams, ...categories.values()) : Infinity
    },
    enterLameDuck: announceClose,
    beginDraining: announceClose,
    async drain (ms) {
      const began = now()
      let outcome: Outcome = 'clean'
      for (const step of stepsUntil(ms)) {
        if (await inTime(Math.max(0, began + step - now()), table.untilAnswered())) return outcome
        const cut = await table.cut((entry, hasBegun) => Math.min(timeOf(entry, hasBegun, ms), ms) <= step)
        cut.forEach(onCut)
        if (cut.length > 0) outcome = 'forced'
      }
      return outcome
    },
    pending: () => table.list().map(nameOf)
  }

  /** Returns the times at which the time of a request may be up, in order. */
  function stepsUntil (ms: number): number[] {
    const { requests, streams, tasks } = timeouts
    const steps = [requests, streams, ...categories.values(), ms - tasks]
    return [...new Set([...steps.filter(step => step >= 0 && step < ms), ms])].sort((a, b) => a - b)
  }

  /** Returns the longest time of a request, in milliseconds. @param ms the longest time of all */
  function timeOf ({ kind, category }: InFlight, hasBegun: boolean, ms: number): number {
    const ofCategory = category === null ? undefined : categories.get(category)
    if (ofCategory !== undefined) return ofCategory
    const name = kind === 'stream' ? 'streams' : 'requests'
    const time = timeouts[name]
    if (!hasBegun || givenTimeouts.has(name)) return time
    return tasksRun() ? Math.max(time, ms - timeouts.tasks) : ms
  }
}

function nameOf ({ method, route, ageMs, kind }: InFlight): string {
  const name = `${method} ${route || '(no route)'}`
  if (kind === 'stream') return `stream ${name}`
  return ageMs === null ? name : `${name} for ${Math.round(ageMs)} ms`
}
