import type { Outcome, ResourceResult } from '../../types/index'

/**
 * Returns the outcome of several parts: `failed` if one failed or was abandoned, otherwise `forced` if one was forced,
 * otherwise `clean`.
 */
export function worstOutcome (outcomes: Iterable<Outcome | ResourceResult['outcome']>): Outcome {
  let worst: Outcome = 'clean'
  for (const outcome of outcomes) {
    if (outcome === 'failed' || outcome === 'abandoned') return 'failed'
    if (outcome === 'forced') worst = 'forced'
  }
  return worst
}
