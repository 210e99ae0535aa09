/**
 * Separates a deliberate second signal from a duplicate of the first: at one Ctrl-C, npm and the terminal each send a
 * signal. A deliberate signal follows after a pause, in which the event loop turns and no signal arrives. A signal that
 * waited while the event loop was blocked is a duplicate.
 */
import { after, turn } from '../util/time'

/** Length of the pause, in milliseconds. */
const pause = 100

/** The detection of a deliberate second signal. */
export interface SecondSignal {
  /** Returns whether the pause is over, so that the next signal is deliberate. */
  isDeliberate(): boolean
  /** Begins the pause again. Call it at each signal. */
  awaitPause(): void
  /** Stops the pause. The next signal counts as a first one. */
  cancel(): void
}

/** Creates the detection. No signal has arrived yet. */
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
      // Node handles signals after the timers of a turn. The wait for one more turn lets a signal of this turn begin
      // the pause again.
      cancelTimer = after(pause, () => { void turn().then(() => { own.over = true }) })
    },
    cancel
  }
}
