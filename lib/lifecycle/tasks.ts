/**
 * Tasks: work behind an answer, which only the shutdown waits for. `waitUntil(promise)` is the call of the edge runtimes; `task(name,
 * work)` also gives the work a signal that aborts when draining begins.
 */
import type { Outcome, TaskResult } from '../../types/index'
import { now, startDeadline, within } from '../util/time'
import { ShutdownLateError, ShutdownTimeoutError, toError } from '../errors'
import type { Lifecycle } from './phases'

/** The tasks that run, and what became of the others. */
export interface Tasks {
  readonly active: number
  readonly completed: number
  readonly cancelled: number
  readonly failed: number
  readonly abandoned: number
  /** Names of the tasks that run. */
  pending(): string[]
  /** Waits for the promise while draining. @throws FST_ERR_SHUTDOWN_LATE once cleaning has begun */
  add(name: string, promise: PromiseLike<unknown>): void
  /** Runs the work as a task. @returns what it returns; rejects with FST_ERR_SHUTDOWN_LATE once cleaning has begun */
  run<T>(name: string, work: (signal: AbortSignal) => T | PromiseLike<T>): Promise<T>
  /** Waits for all tasks, also for new ones. A task that runs after `timeout` milliseconds is abandoned. */
  drain(timeout: number): Promise<Outcome>
  /** The results of the tasks that ran when draining began, or began later. */
  results(): readonly TaskResult[]
}

interface Running {
  readonly name: string
  readonly startedAt: number
}

/** @param onEnd receives the result of each task */
export function createTasks (lifecycle: Pick<Lifecycle, 'phase' | 'signal' | 'hasReached'>, onEnd: (result: TaskResult, error: Error | null) => void): Tasks {
  const running = new Set<Running>()
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
    pending: () => Array.from(running, task => task.name),
    add (name, promise) {
      refuseLate(name)
      follow(name, promise)
    },
    run<T> (name: string, work: (signal: AbortSignal) => T | PromiseLike<T>) {
      try {
        refuseLate(name)
      } catch (error) {
        return Promise.reject(error)
      }
      const promise = new Promise<T>(resolve => { resolve(work(signal)) })
      follow(name, promise)
      return promise
    },
    async drain (timeout) {
      const { remaining } = startDeadline(timeout)
      // In a loop: code that awaits one task may start the next before this function continues.
      while (running.size > 0 && remaining() > 0) await within(remaining(), () => new Promise<void>(resolve => { empty = resolve }))
      for (const task of running) end(task, 'abandoned', new ShutdownTimeoutError(`Task '${task.name}'`, Math.round(timeout)))
      return results.some(({ outcome }) => outcome === 'failed' || outcome === 'abandoned') ? 'failed' : 'clean'
    },
    results: () => results
  }

  function refuseLate (name: string): void {
    if (lifecycle.hasReached('cleaning')) throw new ShutdownLateError(name, lifecycle.phase)
  }

  function follow (name: string, promise: PromiseLike<unknown>): void {
    const task: Running = { name, startedAt: now() }
    running.add(task)
    // Both outcomes are handled, so that a task without an awaiter is no unhandled rejection: it is reported as failed.
    // Not `promise.then()`: the value may be no promise, and its `then` may throw.
    Promise.resolve(promise).then(
      () => end(task, 'completed', null),
      thrown => end(task, isCancellation(thrown) ? 'cancelled' : 'failed', toError(thrown))
    )
  }

  function end (task: Running, outcome: TaskResult['outcome'], error: Error | null): void {
    if (!running.delete(task)) return
    count[outcome]++
    const result = Object.freeze({ name: task.name, outcome, durationMs: now() - task.startedAt })
    if (signal.aborted) results.push(result)
    onEnd(result, error)
    if (running.size === 0) empty()
  }

  /** Whether the task stopped because of the signal: it threw the signal's reason, or an AbortError after the signal had aborted. */
  function isCancellation (thrown: unknown): boolean {
    return signal.aborted && (thrown === signal.reason || (thrown as Error | undefined)?.name === 'AbortError')
  }
}
