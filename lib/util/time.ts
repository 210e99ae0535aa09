/**
 * Time, through one door. A deadline is when all must be over; a timeout is how long one thing may take.
 *
 * Timers are global `setTimeout`, because fake clocks move it; they do not move `AbortSignal.timeout()` nor
 * `node:timers/promises`. They are kept ref'd: a stuck hook may be all that is left in the process, and with an unref'd
 * timer Node would then leave with code 0 and without a report. Each is cleared as soon as it is not needed.
 */

export interface Deadline {
  /** Milliseconds left, never below 0. */
  remaining(): number
  /** Milliseconds since it began. */
  elapsed(): number
  /** The smaller of `timeout` and what is left once `reserve` is kept back. */
  stage(timeout: number, reserve?: number): number
}

export const now = (): number => performance.now()

export function startDeadline (total: number): Deadline {
  const began = now()
  const remaining = (): number => Math.max(0, began + total - now())
  return {
    remaining,
    elapsed: () => now() - began,
    stage: (timeout, reserve = 0) => Math.max(0, Math.min(timeout, remaining() - reserve))
  }
}

/** Call `fn` once in `ms` milliseconds. @returns cancel */
export function after (ms: number, fn: () => void): () => void {
  const timer = setTimeout(fn, ms)
  return () => clearTimeout(timer)
}

/** Call `fn` every `ms` milliseconds; does not keep the process alive. @returns stop */
export function every (ms: number, fn: () => void): () => void {
  const timer = setInterval(fn, ms)
  timer.unref()
  return () => clearInterval(timer)
}

/** Resolve in `ms` milliseconds. */
export function sleep (ms: number): Promise<void> {
  return new Promise(resolve => { after(ms, resolve) })
}

/**
 * One whole turn of the event loop: what is already in the kernel's buffers is read before it is over. Two immediates,
 * because the first one may come right after the poll that we are in, and only the second after a poll of its own.
 */
export function turn (): Promise<void> {
  return new Promise(resolve => { setImmediate(() => setImmediate(resolve)) })
}

export type Settled<T> = { readonly status: 'fulfilled', readonly value: T } | { readonly status: 'rejected', readonly reason: unknown } | { readonly status: 'late' }

/** Run `work` for at most `ms` milliseconds. Never rejects; a synchronous throw is a rejection, a late one is nobody's. */
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
