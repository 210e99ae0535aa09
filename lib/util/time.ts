/**
 * The only place for timers. A deadline is the point in time when all must be over. A timeout is the longest duration of one thing.
 *
 * Timers are global `setTimeout` and `setInterval`, because fake clocks replace these; they do not replace `AbortSignal.timeout()`
 * and `node:timers/promises`. A timeout keeps the process alive: a stuck hook may be all that is left, and Node would leave with
 * code 0 and without a report. Each timer is cleared as soon as it is no longer needed.
 */
import { ShutdownTimeoutError } from '../errors'

export interface Deadline {
  /** Milliseconds left, never below 0. */
  remaining(): number
  /** Returns the smaller of `timeout` and what is left without `reserve`, in milliseconds. */
  stage(timeout: number, reserve?: number): number
}

/** Milliseconds of a clock that never goes back. */
export const now = (): number => performance.now()

/** Starts a deadline that ends in `total` milliseconds. */
export function startDeadline (total: number): Deadline {
  const began = now()
  const remaining = (): number => Math.max(0, began + total - now())
  return {
    remaining,
    stage: (timeout, reserve = 0) => Math.max(0, Math.min(timeout, remaining() - reserve))
  }
}

/** Calls `fn` once, in `ms` milliseconds. @returns cancel */
export function after (ms: number, fn: () => void): () => void {
  const timer = setTimeout(fn, ms)
  return () => clearTimeout(timer)
}

/** Calls `fn` every `ms` milliseconds. It does not keep the process alive. @returns stop */
export function every (ms: number, fn: () => void): () => void {
  const timer = setInterval(fn, ms)
  timer.unref()
  return () => clearInterval(timer)
}

/** Resolves in `ms` milliseconds. */
export function sleep (ms: number): Promise<void> {
  return new Promise(resolve => { after(ms, resolve) })
}

/**
 * Resolves after one whole turn of the event loop: what is in the kernel's buffers now has been read then. It takes two immediates,
 * because the first one may follow the poll that runs now. Only the second one follows a poll of its own.
 */
export function turn (): Promise<void> {
  return new Promise(resolve => { setImmediate(() => setImmediate(resolve)) })
}

/** How often the next items of `spreadOver` are due, in milliseconds. */
const spreadStep = 50

/**
 * Calls `fn` with some of the items every 50 milliseconds, evenly, so that the last ones are due before `ms` milliseconds have
 * passed. @returns stop
 */
export function spreadOver<T> (items: readonly T[], ms: number, fn: (some: T[]) => void): () => void {
  if (items.length === 0) return () => {}
  const left = [...items]
  // One step less than there is time for: the last items are due before the time is up.
  const steps = Math.max(1, Math.floor(ms / spreadStep) - 1)
  const share = Math.ceil(left.length / steps)
  const stop = every(spreadStep, () => {
    const some = left.splice(0, share)
    if (left.length === 0) stop()
    fn(some)
  })
  return stop
}

/** What became of a piece of work that has a timeout. `late`: it has not settled. */
export type Settled<T> = { readonly status: 'fulfilled', readonly value: T } | { readonly status: 'rejected', readonly reason: unknown } | { readonly status: 'late' }

/** Runs `work` for at most `ms` milliseconds. Never rejects. A synchronous throw counts as a rejection; a late one is ignored. */
export async function within<T> (ms: number, work: () => T | PromiseLike<T>): Promise<Settled<T>> {
  let cancel = (): void => {}
  const late = new Promise<Settled<T>>(resolve => { cancel = after(ms, () => resolve({ status: 'late' })) })
  const settled = new Promise<T>(resolve => resolve(work())).then<Settled<T>, Settled<T>>(
    value => ({ status: 'fulfilled', value }),
    reason => ({ status: 'rejected', reason })
  )
  try {
    return await Promise.race([settled, late])
  } finally {
    cancel()
  }
}

/**
 * Returns why a piece of work failed: its own error, or FST_ERR_SHUTDOWN_TIMEOUT.
 *
 * @param what names the work in the message, as "Resource 'redis'"
 * @param ms its timeout, in milliseconds
 */
export function errorOf (settled: Exclude<Settled<unknown>, { readonly status: 'fulfilled' }>, what: string, ms: number): unknown {
  return settled.status === 'rejected' ? settled.reason : new ShutdownTimeoutError(what, Math.round(ms))
}
