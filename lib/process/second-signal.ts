/**
 * Separates a deliberate second signal from a duplicate of the first: npm and a terminal each send the same Ctrl-C. A
 * deliberate signal follows a pause, in which the event loop turns and no signal arrives. A signal that waited while the
 * event loop was blocked is a duplicate.
 */
import { after, turn } from '../util/time'

/** Length of the pause, in milliseconds. */
const pause = 100

export interface SecondSignal {
  /** Whether the pause is over, so that the next signal is a deliberate one. */
  isDeliberate(): boolean
  /** Begins the pause anew. Called at each signal. */
  awaitPause(): void
  /** Stops the pause; the next signal is not a second one. */
  cancel(): void
}

export function createSecondSignal (): SecondSignal {
  let current = { over: false }
  let cancelTimer = (): void => {}

  function cancel (): void {
    cancelTimer()
    current = { over: false }
  }

  return {
    isDeliberate: () => current.over,
    awaitPause () {
      cancel()
      const own = current
      // Node handles signals after the timers of a turn and before its end: a signal of this turn begins the pause anew.
      cancelTimer = after(pause, () => { void turn().then(() => { own.over = true }) })
    },
    cancel
  }
}
