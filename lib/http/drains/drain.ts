/** The contract of a drain: it waits until one kind of traffic is over, up to a timeout, and cuts the rest. */
import type { Outcome } from '../../../types/index'

/** The drain of one kind of traffic. */
export interface Drain {
  /** Its name in an error message. */
  readonly name: string
  /** Longest time of this drain, in milliseconds; `Infinity` if only the total limits it. */
  readonly timeout: number
  /**
   * Lame-duck begins. Requests are still served, and clients are asked to leave. Connections that must not all close at
   * the same time close evenly over `ms` milliseconds.
   */
  enterLameDuck?(ms: number): void
  /** Draining begins. All clients are asked to leave at once. */
  beginDraining(): void
  /** Resolves when this traffic is over. After `ms` milliseconds the rest is cut and reported. Never rejects. */
  drain(ms: number): Promise<Outcome>
  /** Returns what is still in flight, by name. */
  pending(): string[]
}
