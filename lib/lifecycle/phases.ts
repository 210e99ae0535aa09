/**
 * The phases of a server's life, and the one rule about them: forward only. A phase may be skipped (a plain `close()` has
 * no lame-duck), but none is entered twice and none is left for an earlier one.
 */
import type { Phase } from '../../types/index'
import { ShutdownPhaseError } from '../errors'
import { suggest } from '../util/did-you-mean'

export const phases = ['running', 'lame-duck', 'draining', 'cleaning', 'shutdown'] as const satisfies readonly Phase[]

const ranks: ReadonlyMap<Phase, number> = new Map(phases.map((phase, rank) => [phase, rank]))

export interface PhaseLine {
  readonly current: Phase
  /** @returns whether this phase has been entered, or a later one */
  reached(phase: Phase): boolean
  /** @returns the phase that was left @throws where the phase has been reached already */
  enter(phase: Phase): Phase
  /** Called when the phase is entered; what a listener throws, or rejects with, goes to `onListenerError`. @returns undo */
  on(phase: Phase, listener: (phase: Phase) => void): () => void
}

export function createPhaseLine (onListenerError: (error: unknown) => void): PhaseLine {
  let current: Phase = 'running'
  let rank = ranks.get(current)!
  const listeners = new Map<Phase, Set<(phase: Phase) => void>>(phases.map(phase => [phase, new Set()]))

  // Asked for each request.
  const reached = (phase: Phase): boolean => ranks.get(phase)! <= rank

  return {
    get current () { return current },
    reached,
    enter (phase) {
      if (reached(phase)) throw new ShutdownPhaseError(`'${phase}' cannot follow '${current}'`)
      const previous = current
      current = phase
      rank = ranks.get(phase)!
      for (const listener of [...listeners.get(phase)!]) {
        try {
          const answer: unknown = listener(phase)
          // An async listener is a likely one, and a rejection that nobody catches would end the process in the middle.
          if (answer instanceof Promise) answer.catch(onListenerError)
        } catch (error) {
          onListenerError(error)
        }
      }
      return previous
    },
    on (phase, listener) {
      const set = listeners.get(phase)
      if (set === undefined) throw new ShutdownPhaseError(`'${String(phase)}' is not a phase${suggest(String(phase), phases)}`)
      // A listener of its own for each call: the same function given twice is called twice, and each undo removes one.
      const own = (entered: Phase): void => listener(entered)
      set.add(own)
      return () => { set.delete(own) }
    }
  }
}
