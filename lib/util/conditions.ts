/**
 * Promises that resolve when a condition holds, without polling: the owner of the state calls `check()` after each
 * change.
 */

/** A list of conditions, each with a promise. */
export interface Conditions {
  /** Resolves when `condition` returns true: at once, or at the first `check()` at which it does. Never rejects. */
  until(condition: () => boolean): Promise<void>
  /** Evaluates every condition that is still waited for. Call it after each change that can make one true. */
  check(): void
}

/** Creates an empty list of conditions. */
export function createConditions (): Conditions {
  let waiting: { readonly condition: () => boolean, readonly resolve: () => void }[] = []
  return {
    until: condition => new Promise(resolve => {
      if (condition()) resolve()
      else waiting.push({ condition, resolve })
    }),
    check () {
      if (waiting.length > 0) resolveFulfilled()
    }
  }

  /**
   * Resolves the promises whose condition holds. A separate function, because `check()` runs for every request, and a
   * function with a closure allocates memory at each call.
   */
  function resolveFulfilled (): void {
    const fulfilled = waiting.filter(({ condition }) => condition())
    if (fulfilled.length === 0) return
    waiting = waiting.filter(each => !fulfilled.includes(each))
    for (const { resolve } of fulfilled) resolve()
  }
}
