/**
 * Closes one resource: calls `close`. When its time is up, aborts the signal and calls `force`. Thousands may close at
 * once, so resources that start in the same millisecond with the same timeout share one timer and one signal.
 */
import { setMaxListeners } from 'node:events'
import type { Resource, ResourceResult } from '../../types/index'
import { ShutdownTimeoutError, toError } from '../errors'
import { after, now, within } from '../util/time'

/** A resource that may be closing. */
export interface Closing {
  readonly name: string
  readonly resource: Resource
  /** The time at which it began to close, as `now()` returns it; -1 before. */
  startedAt: number
  /** The timeout that it shares while `close` runs; otherwise `null`. */
  sharedTimeout: SharedTimeout | null
}

/** One timer and one signal for several resources. */
export interface SharedTimeout {
  readonly millisecond: number
  /** The timeout of these resources, in milliseconds. */
  readonly timeout: number
  readonly signal: AbortSignal
  /** The number of resources that it runs for. */
  members: number
  cancel(): void
}

/** Options of `createCloser`. */
export interface CloserOptions<C extends Closing> {
  /** Longest time of a resource that has no `timeout`, in milliseconds. */
  readonly timeout: number
  /** Returns the remaining time of the whole shutdown, in milliseconds. */
  readonly remaining: () => number
  /** All resources, closing or not. */
  readonly all: readonly C[]
  /** Called once for each resource, maybe before `close` has returned. */
  readonly onSettled: (closing: C, outcome: ResourceResult['outcome'], error: unknown) => void
}

/** Closes resources, each with its timeout. */
export interface Closer<C extends Closing> {
  /** Begins to close a resource. Never throws: the result goes to `onSettled`. */
  close(closing: C): void
  /** Cancels every timer. Call it when no resource is closing. */
  cancelTimers(): void
}

/** Longest time of `force`, in milliseconds. It is also at most a tenth of the resource's timeout. */
const longestForce = 1_000

/** Creates a closer. Its timers run only while a resource closes. */
export function createCloser<C extends Closing> ({ timeout, remaining, all, onSettled }: CloserOptions<C>): Closer<C> {
  const sharedTimeouts = new Map<number, SharedTimeout>()
  return {
    close,
    cancelTimers () {
      for (const shared of sharedTimeouts.values()) shared.cancel()
      // A resource that is added in this millisecond must not share a timer that is cancelled.
      sharedTimeouts.clear()
    }
  }

  function close (closing: C): void {
    const { resource } = closing
    closing.startedAt = now()
    const { time, problem } = timeoutOf(resource, timeout)
    const shared = closing.sharedTimeout = sharedTimeoutOf(closing, time)
    shared.members++
    let promise: PromiseLike<void> | null
    try {
      const returned = resource.close?.(shared.signal)
      promise = typeof returned?.then === 'function' ? returned : null
      // The resource has closed all the same.
      if (problem !== null) promise = Promise.resolve(promise).then(() => { throw problem })
    } catch (error) {
      return settleInTime(closing, shared, 'failed', error)
    }
    if (promise === null) return settleInTime(closing, shared, 'closed', null)
    // `Promise.resolve` returns a native promise unchanged, and handles a thenable that throws or settles
    // synchronously.
    Promise.resolve(promise).then(
      () => settleInTime(closing, shared, 'closed', null),
      error => settleInTime(closing, shared, 'failed', error)
    )
  }

  function settleInTime (closing: C, shared: SharedTimeout, outcome: 'closed' | 'failed', error: unknown): void {
    if (closing.sharedTimeout === null) return // Its time was up earlier.
    closing.sharedTimeout = null
    shared.members--
    onSettled(closing, outcome, error)
    if (shared.members === 0 && sharedTimeouts.get(shared.timeout) !== shared) shared.cancel()
  }

  function sharedTimeoutOf (closing: C, time: number): SharedTimeout {
    const millisecond = Math.floor(closing.startedAt)
    const current = sharedTimeouts.get(time)
    if (current?.millisecond === millisecond) return current
    if (current?.members === 0) current.cancel()
    const abort = new AbortController()
    setMaxListeners(0, abort.signal) // Thousands of resources may listen to it.
    // `force` also needs a part of the shutdown's time.
    const granted = Math.max(0, Math.min(time, remaining() - forceTimeout(time)))
    const cancel = after(granted, () => {
      if (sharedTimeouts.get(time) === shared) sharedTimeouts.delete(time)
      endLate(shared, abort, granted)
    })
    const shared: SharedTimeout = { millisecond, timeout: time, signal: abort.signal, members: 0, cancel }
    sharedTimeouts.set(time, shared)
    return shared
  }

  function endLate (shared: SharedTimeout, abort: AbortController, granted: number): void {
    const late = all.filter(({ sharedTimeout }) => sharedTimeout === shared)
    for (const closing of late) closing.sharedTimeout = null
    abort.abort(new ShutdownTimeoutError(late.map(({ name }) => `Resource '${name}'`).join(', '), Math.round(granted)))
    for (const closing of late) void force(closing, shared.timeout, granted)
  }

  async function force (closing: C, timeout: number, granted: number): Promise<void> {
    const { name, resource } = closing
    const late = new ShutdownTimeoutError(`Resource '${name}'`, Math.round(granted))
    const time = Math.min(forceTimeout(timeout), Math.max(1, remaining()))
    const forced = await within(time, () => {
      if (resource.force === undefined) throw late
      return resource.force()
    })
    if (forced.status === 'fulfilled') return onSettled(closing, 'forced', late)
    onSettled(closing, 'abandoned', forced.status === 'rejected' ? forced.reason : late)
  }
}

/** Returns the timeout of a resource. If a getter throws, `problem` is its error, and the time is `fallback`. */
export function timeoutOf (resource: Resource, fallback: number): { time: number, problem: Error | null } {
  try {
    return { time: resource.timeout ?? fallback, problem: null }
  } catch (error) {
    return { time: fallback, problem: toError(error) }
  }
}

function forceTimeout (timeout: number): number {
  return Math.min(longestForce, timeout / 10)
}
