/**
 * fastify-cli (`fastify start`): it closes the app with a close-with-grace of its own, which exits 500 ms after a
 * signal. The plugin takes the place of that one, and of no other.
 */

/** The listeners of close-with-grace, by their names, with a part of their code. */
const listeners: Readonly<Record<string, string>> = {
  onSignal: 'run({ signal })', onError: 'run({ err })', onNormalExit: 'run({})'
}

/** Returns whether fastify-cli has started this app. */
export function isFastifyCli (): boolean {
  return Object.keys(require.cache).some(path => /[\\/]fastify-cli[\\/]start\.js$/.test(path))
}

/**
 * Removes the listeners that fastify-cli has added for these events, and for `beforeExit`. fastify-cli adds them when
 * the app is loaded, so they are the last ones of their kind.
 *
 * @returns whether there were any
 */
export function replaceFastifyCli (events: readonly string[]): boolean {
  if (!isFastifyCli()) return false
  const found = [...events, 'beforeExit'].flatMap(event => {
    const listener = process.listeners(event as NodeJS.Signals).filter(isCloseWithGrace).at(-1)
    return listener === undefined ? [] : [{ event, listener }]
  })
  for (const { event, listener } of found) process.removeListener(event, listener)
  return found.length > 0
}

function isCloseWithGrace (listener: (...args: any[]) => void): boolean { // any: each event has its own arguments
  const code = listeners[listener.name]
  return code !== undefined && listener.toString().includes(code)
}
