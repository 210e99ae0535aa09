/** What happened, as typed data, to whoever listens. A listener that throws, or rejects, disturbs nobody. */
import type { ShutdownEvent } from '../../types/index'

export interface Events {
  emit(event: ShutdownEvent): void
  /** @returns undo */
  listen(listener: (event: ShutdownEvent) => void): () => void
}

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
      // A listener of its own for each call: the same function given twice is called twice, and each undo removes one.
      const own = (event: ShutdownEvent): void => listener(event)
      listeners.add(own)
      return () => { listeners.delete(own) }
    }
  }
}

/** Exporters are the leaves: there is nobody left to tell, and a shutdown must not stop for a metric. */
function ignore (_error: unknown): void {}
