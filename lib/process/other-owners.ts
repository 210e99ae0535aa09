/**
 * Other owners of the process: code that listens to the same signals and errors, such as NestJS, a crash reporter or a
 * hand-written `process.on('SIGTERM')`. The process does not exit while they may still work.
 */

/** The counters of signal-exit 4 and 3. It has one listener per signal and copy, which does nothing beside another one. */
const signalExitKeys = [
  [globalThis, Symbol.for('signal-exit emitter')], [process, '__signal_exit_emitter__']
] as const

/**
 * Returns how many other listeners an event of the process has. Those of signal-exit do not count, because it does its
 * work in the 'exit' event.
 *
 * @param ours our own listener
 */
export function countOthers (event: string, ours: (value: never) => void): number {
  return process.listeners(event as NodeJS.Signals).filter(listener => listener !== ours).length - countSignalExit(event)
}

/** Returns the names of the functions that also listen to a signal, for the log. */
export function namesOfOthers (signal: string, ours: (value: never) => void): string[] {
  if (countOthers(signal, ours) <= 0) return []
  return process.listeners(signal as NodeJS.Signals)
    .filter(listener => listener !== ours)
    .map(({ name }) => name || 'anonymous')
}

function countSignalExit (event: string): number {
  if (!event.startsWith('SIG')) return 0
  let count = 0
  for (const [holder, key] of signalExitKeys) {
    const emitter = (holder as unknown as Record<string | symbol, { readonly count?: number } | undefined>)[key]
    count += emitter?.count ?? 0
  }
  return count
}
