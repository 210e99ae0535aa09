/** How something ended, from best to worst. */
import type { HookResult, Outcome, ResourceResult } from '../../types/index'

type PartOutcome = Outcome | ResourceResult['outcome'] | HookResult['outcome']

/** The outcome of the whole: the worst of its parts. What was abandoned has failed. */
export function worstOutcome (outcomes: readonly PartOutcome[]): Outcome {
  if (outcomes.includes('failed') || outcomes.includes('abandoned')) return 'failed'
  return outcomes.includes('forced') ? 'forced' : 'clean'
}
