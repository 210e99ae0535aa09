/** One that did not end by itself in time, in words. */
export function verdict ({ hung, code, exitMs }, cap) {
  return hung ? `still there after ${cap / 1_000} s` : `only after ${(exitMs / 1_000).toFixed(1)} s, exit code ${code}`
}
