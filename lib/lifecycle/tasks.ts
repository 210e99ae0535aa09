/**
 * Tasks: background work. The shutdown waits for it, and no client does. `waitUntil(promise)` has its name from the
 * edge runtimes. `task(name, work)` also passes a signal to the work, which aborts when draining begins.
 *
 * An onResponse hook is such work, too. It is only counted, by the name of the hook, because it runs for each request.
 */
import type { Outcome, TaskResult } from '../../types/index'
import { now, startDeadline, within } from '../util/time'
import { ShutdownLateError, ShutdownTimeoutError, received, toError } from '../errors'
import { kLateTask } from '../symbols'
import type { Lifecycle } from './phases'

/** The running tasks, and the counts and results of the others. */
export interface Tasks {
  /** How many tasks run now. */
  readonly active: number
  /** How many tasks have fulfilled. */
  readonly completed: number
  /** How many tasks have stopped because of their signal. */
  readonly cancelled: number
  /** How many tasks have rejected for another reason. */
  readonly failed: number
  /** How many tasks had not settled when their time was up. */
  readonly abandoned: number
  /** Returns what `drain` waits for, by name. */
  pending(): string[]
  /** Adds a promise as a task. @throws FST_ERR_SHUTDOWN_LATE if cleaning has begun */
  add(name: string, promise: PromiseLike<unknown>): void
  /**
   * Runs work as a task.
   *
   * @returns a promise of its result. It rejects with FST_ERR_SHUTDOWN_LATE if cleaning has begun
   */
  run<T>(name: string, work: (signal: AbortSignal) => T | PromiseLike<T>): Promise<T>
  /**
   * Creates a counter of work that `drain` also waits for. It has a result only if it is abandoned, and `active` does
   * not include it.
   */
  counter(name: string): WorkCounter
  /** Waits for all tasks, also for new ones. A task that runs after `timeout` milliseconds is abandoned. */
  drain(timeout: number): Promise<Outcome>
  /** Returns the results of the tasks that ended after draining had begun. */
  results(): readonly TaskResult[]
}

/** Counts the running calls of one function. A call allocates no memory. */
export interface WorkCounter {
  /** A call begins. */
  begin(): void
  /** A call is over. */
  end(): void
}

interface Running {
  readonly name: string
  /** The time at which it began. Counted work begins when its first call begins, and is over when no call runs. */
  startedAt: number
}

/** Creates an empty list of tasks. @param onEnd called with the result of each task */
export function createTasks (
  lifecycle: Pick<Lifecycle, 'phase' | 'signal' | 'hasReached' | 'elapsed'>,
  onEnd: (result: TaskResult, error: Error | null) => void
): Tasks {
  const running = new Set<Running>()
  /** Counted work with at least one running call. */
  const counted = new Set<Running>()
  const results: TaskResult[] = []
  const count = { completed: 0, cancelled: 0, failed: 0, abandoned: 0 }
  const { signal } = lifecycle
  let empty = (): void => {}

  return {
    get active () { return running.size },
    get completed () { return count.completed },
    get cancelled () { return count.cancelled },
    get failed () { return count.failed },
    get abandoned () { return count.abandoned },
    pending: () => [...Array.from(running, ({ name }) => `task ${name}`), ...Array.from(counted, ({ name }) => name)],
    add (name, promise) {
      const late = lateError(name)
      if (late === null) return follow(name, promise)
      // The caller cannot wait for the promise, because `add` throws.
      Promise.resolve(promise).catch(() => {})
      throw late
    },
    run<T> (name: string, work: (signal: AbortSignal) => T | PromiseLike<T>) {
      const late = lateError(name)
      if (late !== null) {
        const rejected = Promise.reject(late)
        // Without our process listener, an unhandled rejection would end the process.
        rejected.catch(() => {})
        return rejected
      }
      const promise = new Promise<T>(resolve => { resolve(work(signal)) })
      follow(name, promise)
      return promise
    },
    counter (name) {
      const work: Running = { name, startedAt: 0 }
      let calls = 0
      return {
        begin () {
          if (calls++ > 0) return
          work.startedAt = now()
          counted.add(work)
        },
        end () {
          if (--calls === 0 && counted.delete(work)) checkEmpty()
        }
      }
    },
    async drain (timeout) {
      const { remaining } = startDeadline(timeout)
      // A loop, because code that awaits one task may start the next before this function continues.
      while (running.size + counted.size > 0 && remaining() > 0) {
        await within(remaining(), () => new Promise<void>(resolve => { empty = resolve }))
      }
      for (const task of running) {
        end(task, 'abandoned', new ShutdownTimeoutError(`Task '${task.name}'`, Math.round(timeout)))
      }
      for (const work of counted) {
        record(work, 'abandoned', new ShutdownTimeoutError(`The ${work.name}`, Math.round(timeout)))
      }
      counted.clear()
      return results.some(({ outcome }) => outcome === 'failed' || outcome === 'abandoned') ? 'failed' : 'clean'
    },
    results: () => results
  }

  /**
   * Returns the error of a task that comes too late, or `null`. A timer that starts tasks often does not handle their
   * errors. By the symbol, the process listener does not take this one for a crash.
   */
  function lateError (name: string): Error | null {
    if (!lifecycle.hasReached('cleaning')) return null
    return Object.defineProperty(new ShutdownLateError(textOf(name), lifecycle.phase), kLateTask, { value: true })
  }

  function follow (name: string, promise: PromiseLike<unknown>): void {
    const task: Running = { name: textOf(name), startedAt: now() }
    running.add(task)
    // The rejection is handled here, because a caller that does not await the task would cause an unhandled rejection.
    // Not `promise.then()`, because the value may not be a promise, and its `then` may throw.
    Promise.resolve(promise).then(
      () => end(task, 'completed', null),
      thrown => end(task, isCancellation(thrown) ? 'cancelled' : 'failed', toError(thrown))
    )
  }

  function end (task: Running, outcome: TaskResult['outcome'], error: Error | null): void {
    if (!running.delete(task)) return
    record(task, outcome, error)
    checkEmpty()
  }

  function record (task: Running, outcome: TaskResult['outcome'], error: Error | null): void {
    count[outcome]++
    const durationMs = now() - task.startedAt
    const result = Object.freeze({ name: task.name, outcome, startedMs: lifecycle.elapsed() - durationMs, durationMs })
    if (signal.aborted) results.push(result)
    onEnd(result, error)
  }

  function checkEmpty (): void {
    if (running.size + counted.size === 0) empty()
  }

  /**
   * Returns whether a task stopped because of its signal: it threw the signal's reason, or an AbortError after the
   * signal had aborted.
   */
  function isCancellation (thrown: unknown): boolean {
    return signal.aborted && (thrown === signal.reason || nameOf(thrown) === 'AbortError')
  }
}

/** Returns the name of a thrown value, which may be any value, such as a Proxy that throws. */
function nameOf (thrown: unknown): unknown {
  try {
    return (thrown as Error | null | undefined)?.name
  } catch {
    return undefined
  }
}

/** Returns a name as text. In JavaScript it may be any value, such as a symbol. */
function textOf (name: unknown): string {
  return typeof name === 'string' ? name : received(name)
}
