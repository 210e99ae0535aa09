/**
 * Containment: a step of the shutdown that fails does not stop the next one. An error in our own code, or in a library
 * that our code calls, is reported, and the resources still close.
 */
import type { OnProblem } from './problems'
import { errorOf, now, within } from '../util/time'

/** How late a timer is if the process was stopped, in milliseconds. */
const lateTimer = 100

/** A result, or `undefined` if the step has failed. */
export type Attempted<R> = R extends Promise<infer V> ? Promise<V | undefined> : R | undefined

/** A part whose methods never throw, never reject and always settle. */
export type Contained<T> = {
  readonly [K in keyof T]: T[K] extends (...args: infer A) => infer R ? (...args: A) => Attempted<R> : T[K]
}

/** Runs the steps of one shutdown. */
export interface Containment {
  /** Runs one step. Its error is reported, and the result is then `undefined`. */
  run<R>(step: string, work: () => R): Attempted<R>
  /** Returns an object with the same methods, each of which is a step: `name.method`. */
  part<T extends object>(name: string, part: T): Contained<T>
}

/**
 * Creates the containment of one shutdown.
 *
 * @param limit returns the longest time of an async step that begins now, in milliseconds. It is longer than the step's
 *   own timeout, because it only limits a step that exceeds its timeout.
 * @param onProblem called with the name and the error of each step that fails
 */
export function createContainment (
  limit: () => number, onProblem: OnProblem
): Containment {
  const self: Containment = {
    run<R> (step: string, work: () => R) {
      try {
        const result = work()
        return (result instanceof Promise ? settle(step, result) : result) as Attempted<R>
      } catch (error) {
        return report(step, error) as Attempted<R>
      }
    },
    part: (name, part) => new Proxy(part, {
      get (target, key) {
        const value: unknown = Reflect.get(target, key)
        if (typeof value !== 'function') return value
        return (...args: unknown[]) => self.run(`${name}.${String(key)}`, () => Reflect.apply(value, target, args))
      }
    }) as Contained<typeof part>
  }
  return self

  async function settle (step: string, result: Promise<unknown>): Promise<unknown> {
    const time = limit()
    const beganAt = now()
    let settled = await within(time, () => result)
    // If the process was stopped (SIGSTOP) or blocked, the timer of the step itself has only just run.
    if (settled.status === 'late' && now() - beganAt > time + lateTimer) settled = await within(limit(), () => result)
    if (settled.status === 'fulfilled') return settled.value
    return report(step, errorOf(settled, step, time))
  }

  function report (step: string, error: unknown): undefined {
    try {
      onProblem(`The step '${step}' failed`, error)
    } catch {
      // The error has been recorded before it was emitted.
    }
  }
}
