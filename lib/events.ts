/** What happened, as typed data, to whoever listens. A listener that throws disturbs nobody. */
import type { ShutdownEvent } from '../types/index'

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
          listener(event)
        } catch {
          // Exporters are the leaves: there is nobody left to tell, and a shutdown must not stop for a metric.
        }
      }
    },
    listen (listener) {
      listeners.add(listener)
      return () => { listeners.delete(listener) }
    }
  }
}
