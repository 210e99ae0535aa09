/**
 * fastify-cli (`fastify start`): it closes the app with a close-with-grace of its own, which exits 500 ms after a
 * signal. The plugin takes the place of that one, and of no other.
 *
 * `fastify start --watch` runs the app in a child process. It sends a message before a restart, and closes the app
 * itself. If it is ended, it ends no child: the child would run on, and keep its port.
 */
import { type ManagedServer, type ManagerConnection, notManaged } from './process-manager'

/** The listeners of close-with-grace, by their names, with a part of their code. */
const listeners: Readonly<Record<string, string>> = {
  onSignal: 'run({ signal })', onError: 'run({ err })', onNormalExit: 'run({})'
}

/** Returns whether fastify-cli has started this app. */
export function isFastifyCli (): boolean {
  return isLoaded(/[\\/]fastify-cli[\\/]start\.js$/)
}

/** Returns whether this process is the child of `fastify start --watch`. */
export function isWatchedByFastifyCli (): boolean {
  return process.connected && isLoaded(/[\\/]fastify-cli[\\/]lib[\\/]watch[\\/]fork\.js$/)
}

/** Connects the child of `fastify start --watch`: it shuts down if its parent has ended. */
export function connectFastifyCli (server: ManagedServer): ManagerConnection {
  if (!isWatchedByFastifyCli()) return notManaged
  const onDisconnect = (): void => { void server.start({ kind: 'message', detail: 'disconnect' }) }
  process.once('disconnect', onDisconnect)
  return {
    notifyReady () {},
    close () { process.removeListener('disconnect', onDisconnect) }
  }
}

function isLoaded (file: RegExp): boolean {
  return Object.keys(require.cache).some(path => file.test(path))
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

/**
 * Returns whether a listener is one of close-with-grace, whichever code has called it. `any`, because each event has
 * its own arguments.
 */
export function isCloseWithGrace (listener: (...args: any[]) => void): boolean {
  const code = listeners[listener.name]
  return code !== undefined && listener.toString().includes(code)
}
