import type { Outcome, ResourceResult } from '../../types/index'

/** Folds the outcomes of several parts into one: `failed` if one failed or was abandoned, else `forced` if one was forced, else `clean`. */
export function worstOutcome (outcomes: Iterable<Outcome | ResourceResult['outcome']>): Outcome {
  let worst: Outcome = 'clean'
  for (const outcome of outcomes) {
    if (outcome === 'failed' || outcome === 'abandoned') return 'failed'
    if (outcome === 'forced') worst = 'forced'
  }
  return worst
}
