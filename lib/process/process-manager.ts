/** The contract between a server and the manager of its process: PM2, the primary of node:cluster, or systemd. */
import type { Phase, ShutdownReason, ShutdownState } from '../../types/index'

/** A server, as a process manager uses it. */
export interface ManagedServer {
  /** Starts a shutdown, or joins the current one. */
  start(reason: ShutdownReason): Promise<unknown>
  /** The server's state: its phase, and the number of requests, streams and tasks in flight. */
  readonly state: ShutdownState
  /** Calls the listener when the phase is entered. @returns a function that removes the listener */
  on(phase: Phase, listener: (phase: Phase) => void): () => void
}

/** The connection of a server to the manager of its process. */
export interface ManagerConnection {
  /** Reports that the server listens; only the first call has an effect. */
  notifyReady(): void
  /** Removes every listener and timer. May be called more than once. */
  close(): void
}

/** The connection of a process without a manager: both functions do nothing. */
export const notManaged: ManagerConnection = { notifyReady () {}, close () {} }
