/** The length of lame-duck: a fixed time, or the time until no request has come for some time. */
import type { LameDuckEnd } from '../../types/index'
import type { LastRequest } from '../http/last-request'
import type { Settings } from '../options'
import { sleep } from '../util/time'

/** The length of one lame-duck. */
export interface LameDuck {
  /** Returns whether no request has come for `quiet` milliseconds, as far as Node has read them. */
  seemsQuiet(): boolean
  /** Resolves to the same, after Node has also read the requests that the kernel has received. */
  isQuiet(): Promise<boolean>
  /** Waits until lame-duck may end. @returns the reason of its end */
  wait(): Promise<LameDuckEnd>
}

/** Creates the length of one lame-duck. @param elapsed returns the milliseconds since the shutdown began */
export function createLameDuck (
  { min, max, quiet }: Settings['delay'],
  lastRequest: Pick<LastRequest, 'silence' | 'untilQuiet'>,
  elapsed: () => number
): LameDuck {
  return {
    seemsQuiet: () => lastRequest.silence() >= quiet,
    isQuiet: () => lastRequest.untilQuiet(quiet, 0),
    async wait () {
      if (min > 0) await sleep(min)
      if (min === max) return 'delay'
      return await lastRequest.untilQuiet(quiet, max - elapsed()) ? 'quiet' : 'max'
    }
  }
}
