/**
 * The phases of a shutdown, and the lifecycle: the one object that says where the server is. It is made first and handed to
 * every part that needs it. Only `shutdown.ts` moves it.
 *
 * Phases go forward only. A phase may be skipped (a plain `close()` has no lame-duck); none is entered twice.
 */
import { setMaxListeners } from 'node:events'
import type { Outcome, Phase, PhaseResult, ShutdownReason } from '../../types/index'
import { ShutdownPhaseError } from '../errors'
import { suggest } from '../util/did-you-mean'
import { now, type Deadline } from '../util/time'

/** All phases, in their order. */
export const phases = ['running', 'lame-duck', 'draining', 'cleaning', 'shutdown'] as const satisfies readonly Phase[]

/** Where the server is in its life, for every part to read. */
export interface Lifecycle {
  /** A plain property: the `onRequest` hook reads it for each request. */
  readonly phase: Phase
  /** `null` while running. */
  readonly reason: ShutdownReason | null
  /** When all must be over; `null` while running. */
  readonly deadline: Deadline | null
  /** Aborts when draining begins. */
  readonly signal: AbortSignal
  /** Whether the app has booted: every plugin is loaded, every name is known. */
  readonly booted: boolean
  /** @returns whether this phase, or a later one, has been entered */
  hasReached(phase: Phase): boolean
  /** Milliseconds until all must be over; `Infinity` while running. */
  remaining(): number
  /** Milliseconds since the shutdown began. */
  elapsed(): number
  /** Calls the listener when the phase is entered. @returns undo @throws FST_ERR_SHUTDOWN_PHASE for an unknown phase */
  on(phase: Phase, listener: (phase: Phase) => void): () => void
}

/** The lifecycle, with the means to move it. */
export interface LifecycleControl extends Lifecycle {
  /** The phases so far, with their outcomes. The one that is still open has a duration of -1. */
  readonly results: readonly PhaseResult[]
  boot(): void
  begin(reason: ShutdownReason, deadline: Deadline): void
  /** @returns the phase that was left @throws FST_ERR_SHUTDOWN_PHASE where the phase was entered before, or a later one */
  enter(phase: Phase): Phase
  /** Ends the time of the current phase. @default outcome 'clean' */
  end(outcome?: Outcome): void
  /** Aborts the signal. */
  abort(): void
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/** @param onListenerError receives what a phase listener throws, or rejects with */
export function createLifecycle (onListenerError: (error: unknown) => void): LifecycleControl {
  const controller = new AbortController()
  // Each open stream and each task listens to it: a thousand listeners are no leak.
  setMaxListeners(0, controller.signal)
  const listeners = new Map<Phase, Set<(phase: Phase) => void>>(phases.map(phase => [phase, new Set()]))
  const results: Mutable<PhaseResult>[] = []
  let began = 0

  const lifecycle: Mutable<LifecycleControl> = {
    phase: 'running',
    reason: null,
    deadline: null,
    signal: controller.signal,
    booted: false,
    results,
    hasReached: phase => phases.indexOf(lifecycle.phase) >= phases.indexOf(phase),
    remaining: () => lifecycle.deadline?.remaining() ?? Infinity,
    elapsed: () => now() - began,
    boot () { lifecycle.booted = true },
    begin (reason, deadline) {
      began = now()
      lifecycle.reason = reason
      lifecycle.deadline = deadline
    },
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
      if (set === undefined) throw new ShutdownPhaseError(`'${String(phase)}' is not a phase${suggest(String(phase), phases)}`)
      // A wrapper for each call: the same function given twice is called twice, and each undo removes one.
      const own = (entered: Phase): void => listener(entered)
      set.add(own)
      return () => { set.delete(own) }
    }
  }
  return lifecycle

  function call (listener: (phase: Phase) => unknown, phase: Phase): void {
    try {
      const result = listener(phase)
      // An async listener may reject. Unhandled, the rejection would end the process in the middle of the shutdown.
      if (result instanceof Promise) result.catch(onListenerError)
    } catch (error) {
      onListenerError(error)
    }
  }
}
