/** Typed events of the shutdown. A listener that throws or rejects does not affect the others. */
import type { ExporterSource, ShutdownEvent } from '../../types/index'

/** The type of an event. */
export type EventType = ShutdownEvent['type']

/** The events, with their listeners. */
export interface Events {
  /** Calls each listener that wants the event. Never throws. */
  emit(event: ShutdownEvent): void
  /** Returns whether a listener wants this type. Ask before an event is created that is frequent. */
  isWanted(type: EventType): boolean
  /** Calls the listener with each event that it wants: see `ExporterSource`. */
  readonly listen: ExporterSource['listen']
}

interface Listener {
  readonly call: (event: ShutdownEvent) => unknown
  readonly wants: (type: EventType) => boolean
}

/** `request-rejected` is frequent: an overloaded client may send thousands of requests while the server drains. */
const allButFrequent = (type: EventType): boolean => type !== 'request-rejected'

/**
 * Creates an emitter without listeners.
 *
 * @param onListenerError called with the error of a listener. It must not emit, because the listener could fail again.
 */
export function createEvents (onListenerError: (error: unknown) => void): Events {
  // A wrapper for each call of `listen`: a function that is added twice is called twice, and each removal removes one.
  const listeners = new Set<Listener>()
  return {
    emit (event) {
      for (const listener of listeners) {
        try {
          if (!listener.wants(event.type)) continue
          const result = listener.call(event)
          if (result instanceof Promise) result.catch(onListenerError)
        } catch (error) {
          onListenerError(error)
        }
      }
    },
    isWanted (type) {
      for (const { wants } of listeners) {
        try {
          if (wants(type)) return true
        } catch (error) {
          onListenerError(error)
        }
      }
      return false
    },
    listen (listener, wants = allButFrequent) {
      const own: Listener = { call: event => listener(event), wants }
      listeners.add(own)
      return () => { listeners.delete(own) }
    }
  }
}
