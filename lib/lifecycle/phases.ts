/**
 * The phases of a shutdown, and the lifecycle: the one object that contains the current phase. It is created first, and
 * every part reads it. Only `shutdown.ts` changes it.
 *
 * Phases only follow each other in this order. A phase may be skipped (a plain `close()` has no lame-duck), and is
 * entered at most once.
 */
import { setMaxListeners } from 'node:events'
import type { LameDuckEnd, Outcome, Phase, PhaseResult, ShutdownReason } from '../../types/index'
import { ShutdownPhaseError } from '../errors'
import { suggest } from '../util/did-you-mean'
import { now, type Deadline } from '../util/time'

/** All phases, in order. */
export const phases = ['running', 'lame-duck', 'draining', 'cleaning', 'shutdown'] as const satisfies readonly Phase[]

/** The current phase and times of the server. Every part may read it. */
export interface Lifecycle {
  /** The current phase. A plain property, because the `onRequest` hook reads it for each request. */
  readonly phase: Phase
  /** What began the shutdown; `null` while running. */
  readonly reason: ShutdownReason | null
  /** Why lame-duck ended; `null` if there was none, or while it lasts. */
  readonly lameDuckEnd: LameDuckEnd | null
  /** The deadline of the whole shutdown; `null` while running. */
  readonly deadline: Deadline | null
  /** Aborts when draining begins. */
  readonly signal: AbortSignal
  /** Whether the app has booted: every plugin is loaded, and every resource is registered. */
  readonly booted: boolean
  /** Returns whether this phase, or a later one, has been entered. */
  hasReached(phase: Phase): boolean
  /** Returns the milliseconds until the deadline; `Infinity` while running. */
  remaining(): number
  /** Returns the milliseconds since the shutdown began; 0 while running. */
  elapsed(): number
  /**
   * Calls the listener when the phase is entered.
   *
   * @returns a function that removes the listener
   * @throws FST_ERR_SHUTDOWN_PHASE for an unknown phase
   */
  on(phase: Phase, listener: (phase: Phase) => void): () => void
}

/** The lifecycle, with the methods that change it. */
export interface LifecycleControl extends Lifecycle {
  /** The phases so far, with their outcomes. The current phase has a duration of -1. */
  readonly results: readonly PhaseResult[]
  /** Marks the app as booted. */
  boot(): void
  /** Begins the shutdown: sets its reason and its deadline. */
  begin(reason: ShutdownReason, deadline: Deadline): void
  /** Lame-duck ends. */
  endLameDuck(why: LameDuckEnd): void
  /** Replaces the deadline. */
  extend(deadline: Deadline): void
  /**
   * Enters a phase.
   *
   * @returns the previous phase
   * @throws FST_ERR_SHUTDOWN_PHASE if this phase, or a later one, has been entered
   */
  enter(phase: Phase): Phase
  /** Sets the duration and the outcome of the current phase. @default outcome 'clean' */
  end(outcome?: Outcome): void
  /** Aborts the signal. */
  abort(): void
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/**
 * Creates the lifecycle, in phase `running`.
 *
 * @param onListenerError called with the error if a phase listener throws or rejects
 */
export function createLifecycle (onListenerError: (error: unknown) => void): LifecycleControl {
  const controller = new AbortController()
  // Each open stream and each task adds a listener, so a thousand listeners are not a leak.
  setMaxListeners(0, controller.signal)
  const listeners = new Map<Phase, Set<(phase: Phase) => void>>(phases.map(phase => [phase, new Set()]))
  const results: Mutable<PhaseResult>[] = []
  let began: number | null = null

  const lifecycle: Mutable<LifecycleControl> = {
    phase: 'running',
    reason: null,
    lameDuckEnd: null,
    deadline: null,
    signal: controller.signal,
    booted: false,
    results,
    hasReached: phase => phases.indexOf(lifecycle.phase) >= phases.indexOf(phase),
    remaining: () => lifecycle.deadline?.remaining() ?? Infinity,
    elapsed: () => began === null ? 0 : now() - began,
    boot () { lifecycle.booted = true },
    begin (reason, deadline) {
      began = now()
      // It is in events and in the report, which a subscriber must not change.
      lifecycle.reason = Object.freeze(reason)
      lifecycle.deadline = deadline
    },
    endLameDuck (why) {
      lifecycle.lameDuckEnd = why
      results.at(-1)!.endedBy = why
    },
    extend (deadline) { lifecycle.deadline = deadline },
    enter (phase) {
      const previous = lifecycle.phase
      if (lifecycle.hasReached(phase)) throw new ShutdownPhaseError(`'${phase}' cannot follow '${previous}'`)
      if (results.at(-1)?.durationMs === -1) lifecycle.end()
      results.push({ phase, startedMs: lifecycle.elapsed(), durationMs: -1, outcome: 'clean' })
      lifecycle.phase = phase
      for (const listener of [...listeners.get(phase)!]) call(listener, phase)
      return previous
    },
    end (outcome = 'clean') {
      const open = results.at(-1)!
      open.durationMs = lifecycle.elapsed() - open.startedMs
      open.outcome = outcome
    },
    abort: () => controller.abort(new DOMException('The server is shutting down', 'AbortError')),
    on (phase, listener) {
      const set = listeners.get(phase)
      if (set === undefined) {
        throw new ShutdownPhaseError(`'${String(phase)}' is not a phase${suggest(String(phase), phases)}`)
      }
      // A wrapper for each call: a function that is added twice is called twice, and each removal removes one.
      const own = (entered: Phase): void => listener(entered)
      set.add(own)
      return () => { set.delete(own) }
    }
  }
  return lifecycle

  function call (listener: (phase: Phase) => unknown, phase: Phase): void {
    try {
      const result = listener(phase)
      // An async listener may reject. An unhandled rejection would end the process during the shutdown.
      if (result instanceof Promise) result.catch(onListenerError)
    } catch (error) {
      onListenerError(error)
    }
  }
}
