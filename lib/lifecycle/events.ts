/** Typed events of the shutdown. A listener that throws or rejects changes nothing for the others. */
import type { ShutdownEvent } from '../../types/index'

/** The events, with their listeners. */
export interface Events {
  emit(event: ShutdownEvent): void
  /** @returns undo */
  listen(listener: (event: ShutdownEvent) => void): () => void
}

/** Creates an emitter without listeners. */
export function createEvents (): Events {
  const listeners = new Set<(event: ShutdownEvent) => void>()
  return {
    emit (event) {
      for (const listener of listeners) {
        try {
          const answer: unknown = listener(event)
          if (answer instanceof Promise) answer.catch(ignore)
        } catch (error) {
          ignore(error)
        }
      }
    },
    listen (listener) {
      // A wrapper for each call: the same function given twice is called twice, and each undo removes one.
      const own = (event: ShutdownEvent): void => listener(event)
      listeners.add(own)
      return () => { listeners.delete(own) }
    }
  }
}

/** The error of a listener is dropped: a shutdown does not stop for a metric, and no listener is left to report it to. */
function ignore (_error: unknown): void {}
