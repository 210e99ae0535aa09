/** The contract of a drain: it waits until one kind of traffic is over, up to a timeout, and cuts the rest. */
import type { Outcome } from '../../../types/index'

export interface Drain {
  /** Longest time for all of it, in milliseconds. */
  readonly timeout: number
  /** Lame-duck begins: everything is served, and clients are asked to leave. What must be spread is spread over `ms` milliseconds. */
  enterLameDuck?(ms: number): void
  /** Draining begins: all clients are asked to leave at once. */
  beginDraining(): void
  /** Resolves when all is over. What is not over after `ms` milliseconds is cut, and reported. Never rejects. */
  drain(ms: number): Promise<Outcome>
  /** Returns what is still in flight, by name. */
  pending(): string[]
}
