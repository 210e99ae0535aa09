/** Typed events of the shutdown. A listener that throws or rejects does not affect the others. */
import type { ShutdownEvent } from '../../types/index'

/** The events, with their listeners. */
export interface Events {
  /** Calls each listener with the event. Never throws. */
  emit(event: ShutdownEvent): void
  /** Calls the listener with each event. @returns a function that removes the listener */
  listen(listener: (event: ShutdownEvent) => void): () => void
}

/**
 * Creates an emitter without listeners.
 *
 * @param onListenerError called with the error of a listener. It must not emit, because the listener could fail again.
 */
export function createEvents (onListenerError: (error: unknown) => void): Events {
  const listeners = new Set<(event: ShutdownEvent) => void>()
  return {
    emit (event) {
      for (const listener of listeners) {
        try {
          const result: unknown = listener(event)
          if (result instanceof Promise) result.catch(onListenerError)
        } catch (error) {
          onListenerError(error)
        }
      }
    },
    listen (listener) {
      // A wrapper for each call: a function that is added twice is called twice, and each removal removes one.
      const own = (event: ShutdownEvent): void => listener(event)
      listeners.add(own)
      return () => { listeners.delete(own) }
    }
  }
}
