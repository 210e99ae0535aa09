/**
 * Keeps a listener of ours on an event of a server, before all others, also if another library removes or copies the
 * listeners.
 *
 * Some libraries take over an event: they copy the listeners, remove them, add their own, and call the copies for what
 * they do not handle (engine.io, and so socket.io; sockjs; faye). Our listener then is one of the copies, and does not
 * get what the library handles. So a new listener is added before all others, and the copies of the old one do nothing.
 * The same applies when the library restores the listeners.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** The events of a server that other libraries listen to, with the second argument of their listeners. */
interface ServerEvents {
  readonly request: ServerResponse
  readonly upgrade: Socket
  readonly connect: Socket
}

/** A listener of such an event. The third argument of an upgrade, its first bytes, is not passed on. */
export type ServerListener<E extends keyof ServerEvents> = (req: IncomingMessage, other: ServerEvents[E]) => void

/** A listener that is kept in its place. */
export interface KeptListener<E extends keyof ServerEvents> {
  /**
   * From now on, the event has only this listener, also if a library adds one later. With `null`, it has none.
   * If another app uses the server, only our listener is removed.
   */
  replaceAll(listener: ServerListener<E> | null): void
  /** Removes our listener, which is no longer kept. */
  release(): void
}

/** All listeners that this module has added, of all apps, with their keepers. */
const keepers = new WeakMap<object, object>()

/**
 * Adds a listener before all others, and keeps it there.
 *
 * If the listener is removed, and another app with this plugin listens to the server, the server has been handed over
 * to that app (@fastify/restartable). The listener is then no longer kept.
 *
 * @param alone whether the listener is also added if there is no other one. Node handles an upgrade differently if its
 *   event has a listener.
 */
export function keepFirst<E extends keyof ServerEvents> (
  server: Server, event: E, listener: ServerListener<E>, alone: boolean
): KeptListener<E> {
  /** The listener in place. An older one may still be called by another library, and does nothing. */
  let current: ServerListener<E> | null = null
  let handle = listener
  let replaced = false
  let released = false
  const keeper: KeptListener<E> = { replaceAll, release }

  if (alone || server.listenerCount(event) > 0) prepend()
  server.on('newListener', onNewListener)
  server.on('removeListener', onRemoveListener)
  return keeper

  function replaceAll (next: ServerListener<E> | null): void {
    if (isShared()) return release()
    replaced = true
    if (next !== null) handle = next
    alone = next !== null
    clear()
  }

  function prepend (): void {
    const own: ServerListener<E> = (req, other) => {
      if (own === current) handle(req, other)
    }
    keepers.set(own, keeper)
    current = own
    server.prependListener(event, own)
  }

  function clear (): void {
    current = null
    server.removeAllListeners(event)
    if (alone) prepend()
  }

  function isInPlace (): boolean {
    return current !== null && server.listeners(event).includes(current)
  }

  /** Returns whether another app with this plugin listens to the server. */
  function isShared (): boolean {
    return server.listeners(event).some(each => (keepers.get(each) ?? keeper) !== keeper)
  }

  /** Node emits it before it adds the listener. */
  function onNewListener (name: string | symbol, added: object): void {
    if (name !== event || added === current) return
    if (replaced) process.nextTick(() => { if (!released) clear() })
    else if (!isInPlace() && !isShared()) prepend()
  }

  function onRemoveListener (name: string | symbol, removed: object): void {
    if (name !== event || removed !== current) return
    // A library that takes the event over adds its own listener first, or in the same turn.
    process.nextTick(() => {
      if (released || isInPlace()) return
      if (isShared()) release()
      else if (server.listenerCount(event) > 0) prepend()
    })
  }

  function release (): void {
    released = true
    server.removeListener('newListener', onNewListener)
    server.removeListener('removeListener', onRemoveListener)
    if (current !== null) server.removeListener(event, current)
  }
}
