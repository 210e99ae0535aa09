/**
 * The only file that uses timers. A deadline is the point in time when all must be over. A timeout is the longest
 * duration of one thing.
 *
 * Timers are the global `setTimeout` and `setInterval`, because fake clocks replace these, and not
 * `AbortSignal.timeout()` and `node:timers/promises`. A timeout keeps the process alive: if only a stuck hook is
 * pending, Node would otherwise exit with code 0 and without a report. Each timer is cleared as soon as it is no longer
 * needed.
 */
import { ShutdownTimeoutError } from '../errors'

/** A point in time at which all must be over. */
export interface Deadline {
  /** Returns the remaining milliseconds, never below 0. */
  remaining(): number
  /** Returns the smaller of `timeout` and the remaining time minus `reserve`, in milliseconds, never below 0. */
  limit(timeout: number, reserve?: number): number
}

/** Returns the milliseconds of a monotonic clock. */
export const now = (): number => performance.now()

/** Interval at which the clock is read while stops do not count, in milliseconds. A shorter stop is not noticed. */
const clockStep = 250

/** The time that does not count, in milliseconds. */
let lost = 0
let lastRead = 0
let exclusions = 0
let endReads = (): void => {}

/**
 * Begins to exclude time in which the process was stopped (SIGSTOP, a suspended machine), or its event loop was
 * blocked: timers and deadlines wait longer by this time. The clock is read at an interval, and a longer pause between
 * two reads is such a time.
 *
 * @returns a function that ends it. Call it once
 */
export function excludeStops (): () => void {
  if (exclusions++ === 0) {
    lastRead = now()
    endReads = every(clockStep, readClock)
  }
  return () => {
    if (--exclusions === 0) endReads()
  }
}

/** Returns the milliseconds of a monotonic clock, without the time that does not count. */
function readClock (): number {
  const current = now()
  if (exclusions > 0) {
    if (current - lastRead > 2 * clockStep) lost += current - lastRead - clockStep
    lastRead = current
  }
  return current - lost
}

/** Starts a deadline that ends in `total` milliseconds. */
export function startDeadline (total: number): Deadline {
  const end = readClock() + total
  const remaining = (): number => Math.max(0, end - readClock())
  return {
    remaining,
    limit: (timeout, reserve = 0) => Math.max(0, Math.min(timeout, remaining() - reserve))
  }
}

/** The longest time of a Node timer, in milliseconds (24.8 days). Node turns a longer one into 1 ms. */
export const longestTimer = 2 ** 31 - 1

/**
 * Calls `fn` once, in `ms` milliseconds, at most `longestTimer`.
 *
 * @param options.keepAlive whether the timer keeps the process alive. @default true
 * @returns a function that cancels it
 */
export function after (ms: number, fn: () => void, { keepAlive = true } = {}): () => void {
  const time = Math.min(ms, longestTimer)
  const due = readClock() + time
  let timer: NodeJS.Timeout
  start(time)
  return () => clearTimeout(timer)

  function start (left: number): void {
    timer = setTimeout(onTimer, left)
    if (!keepAlive) timer.unref()
  }

  function onTimer (): void {
    const left = due - readClock()
    if (left < clockStep) fn()
    else start(left)
  }
}

/**
 * Calls `fn` every `ms` milliseconds, at most `longestTimer`. It does not keep the process alive.
 *
 * @returns a function that stops it
 */
export function every (ms: number, fn: () => void): () => void {
  const timer = setInterval(fn, Math.min(ms, longestTimer))
  timer.unref()
  return () => clearInterval(timer)
}

/** How often `afterRunning` looks at the clock, in milliseconds. */
const runningStep = 250

/**
 * Calls `fn` once when the process has run for `ms` milliseconds. Time in which it was stopped, or its event loop was
 * blocked, does not count. It does not keep the process alive.
 *
 * @returns a function that cancels it
 */
export function afterRunning (ms: number, fn: () => void): () => void {
  const step = Math.min(runningStep, ms)
  let left = ms
  let last = now()
  const stop = every(step, () => {
    const current = now()
    left -= Math.min(current - last, 2 * step)
    last = current
    if (left > 0) return
    stop()
    fn()
  })
  return stop
}

/** Resolves in `ms` milliseconds. */
export function sleep (ms: number): Promise<void> {
  return new Promise(resolve => { after(ms, resolve) })
}

/**
 * Resolves after one whole turn of the event loop. The data in the kernel's buffers has been read then. It uses two
 * immediates, because the first one may belong to the current turn. Before the second one, Node polls for data again.
 */
export function turn (): Promise<void> {
  return new Promise(resolve => { setImmediate(() => setImmediate(resolve)) })
}

/**
 * Resolves after `count` rounds of Node's queue of ticks. Callbacks of writes and promises have run then, and no new
 * data has been read.
 */
export async function ticks (count: number): Promise<void> {
  for (let left = count; left > 0; left--) await new Promise<void>(resolve => { process.nextTick(resolve) })
}

/** Interval of `spreadOver`, in milliseconds. */
const spreadStep = 50

/**
 * Calls `fn` with an equal share of the items every 50 milliseconds, so that the last call comes before `ms`
 * milliseconds have passed.
 *
 * @returns a function that stops the calls
 */
export function spreadOver<T> (items: readonly T[], ms: number, fn: (some: T[]) => void): () => void {
  if (items.length === 0) return () => {}
  const left = [...items]
  // One step less than fits in the time, so that the last call comes before the time is up.
  const steps = Math.max(1, Math.floor(ms / spreadStep) - 1)
  const share = Math.ceil(left.length / steps)
  const stop = every(spreadStep, () => {
    const some = left.splice(0, share)
    if (left.length === 0) stop()
    fn(some)
  })
  return stop
}

/** The result of work with a timeout. `late`: it has not settled in time. */
export type Settled<T> =
  | { readonly status: 'fulfilled', readonly value: T }
  | { readonly status: 'rejected', readonly reason: unknown }
  | { readonly status: 'late' }

/**
 * Runs `work`, and waits for it up to `ms` milliseconds. Never rejects. A synchronous throw counts as a rejection. A
 * rejection after that time is ignored.
 */
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
 * Waits up to `ms` milliseconds for a promise.
 *
 * @returns whether it has fulfilled in that time. Rejects if the promise does
 */
export async function inTime (ms: number, promise: Promise<unknown>): Promise<boolean> {
  const settled = await within(ms, () => promise)
  if (settled.status === 'rejected') throw settled.reason
  return settled.status === 'fulfilled'
}

/**
 * Returns the error of work that has failed: its own error, or FST_ERR_SHUTDOWN_TIMEOUT.
 *
 * @param what names the work in the message, as "Resource 'redis'"
 * @param ms its timeout, in milliseconds
 */
export function errorOf (
  settled: Exclude<Settled<unknown>, { readonly status: 'fulfilled' }>, what: string, ms: number
): unknown {
  return settled.status === 'rejected' ? settled.reason : new ShutdownTimeoutError(what, Math.round(ms))
}
