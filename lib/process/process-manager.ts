/** As much of the coordinator as the parts that listen to process managers need to know. */
import type { Phase, ShutdownReason, ShutdownState } from '../../types/index'

export interface Steerable {
  /** Begin a shutdown. Asked twice, done once. */
  start(reason: ShutdownReason): Promise<unknown>
  readonly state: ShutdownState
  /** @returns undo */
  on(phase: Phase, listener: (phase: Phase) => void): () => void
}

/** A tie to whoever manages this process. Where nobody does, both functions do nothing. */
export interface Tie {
  /** The server listens: tell whoever waits for that. Done once, however often it is called. */
  ready(): void
  /** Take every listener and timer back. May be called twice. */
  undo(): void
}

/** The tie of a process that nobody manages. */
export const untied: Tie = { ready () {}, undo () {} }
