/** Typed events of the shutdown. A listener that throws or rejects does not affect the others. */
import type { ShutdownEvent } from '../../types/index'

/** The events, with their listeners. */
export interface Events {
  /** Calls each listener with the event. Never throws. */
  emit(event: ShutdownEvent): void
  /** Calls the listener with each event. @returns a function that removes the listener */
  listen(listener: (event: ShutdownEvent) => void): () => void
}

/** Creates an emitter without listeners. */
export function createEvents (): Events {
  const listeners = new Set<(event: ShutdownEvent) => void>()
  return {
    emit (event) {
      for (const listener of listeners) {
        try {
          const result: unknown = listener(event)
          if (result instanceof Promise) result.catch(ignore)
        } catch (error) {
          ignore(error)
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

/** Ignores the error of a listener. It cannot be emitted, because the same listener could fail again. */
function ignore (_error: unknown): void {}
