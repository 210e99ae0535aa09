/** Something that must come in before the server can go: requests, streams, WebSockets, sessions, connections. */
import type { Outcome } from '../../../types/index'

export interface Drain {
  readonly name: string
  /** Longest time for all of it to come in, in milliseconds. */
  readonly timeout: number
  /** Lame-duck begins: go on, but let no new work settle here. Spread what must be spread over `ms` milliseconds. */
  discourage?(ms: number): void
  /** Draining begins: say so to everyone, at once. */
  tell(): void
  /** Wait until all is in; what is not after `ms` milliseconds is cut, and named. Never rejects. */
  drain(ms: number): Promise<Outcome>
  /** Who is still inside, for the person who waits. */
  inside(): string[]
}
