/**
 * Work that nobody waits for but the shutdown: the edge runtimes' `waitUntil`, and tasks with a name and a signal that is
 * aborted when draining begins.
 */
import type { Outcome, TaskResult } from '../../types/index'
import { now, startDeadline, within } from '../util/time'
import { ShutdownLateError, ShutdownTimeoutError, toError } from '../errors'
import type { Lifecycle } from './phases'

export interface Tasks {
  readonly active: number
  readonly completed: number
  readonly cancelled: number
  readonly failed: number
  readonly abandoned: number
  /** Names of the tasks that run. */
  pending(): string[]
  add(name: string, promise: PromiseLike<unknown>): void
  run<T>(name: string, work: (signal: AbortSignal) => T | PromiseLike<T>): Promise<T>
  /** Wait for all, also for those that come meanwhile; who is not in after `timeout` ms is abandoned. */
  drain(timeout: number): Promise<Outcome>
  /** What became of those that were in flight when draining began, or came later. */
  results(): readonly TaskResult[]
}

interface Running {
  readonly name: string
  readonly startedAt: number
}

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
      // Again and again: who waited for one task may start the next before this is told that there is none.
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
    // Both ways are taken, so a task that nobody awaits is no unhandled rejection: it is counted and reported as failed.
    // Not `promise.then()`: what a user took for a promise may be none, or throw.
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

  /** It gave up because we asked it to: it threw the signal's reason, or an AbortError after the signal was aborted. */
  function isCancellation (thrown: unknown): boolean {
    return signal.aborted && (thrown === signal.reason || (thrown as Error | undefined)?.name === 'AbortError')
  }
}
