/** Describes a process that did not end in time. */
export function verdict ({ hung, code, exitMs }, cap) {
  return hung ? `still running after ${cap / 1_000} s` : `only after ${(exitMs / 1_000).toFixed(1)} s, exit code ${code}`
}
