/**
 * Signals and uncaught errors. All Fastify instances of a process share one set of process listeners, also if they use
 * two copies of this package. The process must not exit before the last instance has closed.
 */
import type { ShutdownReason, ShutdownSignal } from '../../types/index'
import { toError } from '../errors'
import { kLateTask } from '../symbols'
import { startBackstop } from './backstop'
import { exit, exitNow, markFailed } from './exit'
import { countOthers, meetOtherOwners, type OtherOwners } from './other-owners'
import { createSecondSignal } from './second-signal'

/** One Fastify instance, as the process sees it. */
export interface Member {
  /** Signals that start its shutdown; empty for none. */
  readonly signals: readonly ShutdownSignal[]
  /** Whether an uncaught error starts its shutdown. */
  readonly uncaughtErrors: boolean
  /** Whether the process exits after its shutdown. May become false before this instance leaves. */
  readonly exit: boolean
  /** Longest time its shutdown may take, in milliseconds. */
  readonly budget: number
  /** Starts its shutdown, or joins the current one. Never rejects. */
  start(reason: ShutdownReason): Promise<unknown>
  /** Called with each uncaught error, before `start`. */
  onUncaughtError(error: unknown): void
  /** Logs the reason, right before the process is ended by force. */
  reportForcedExit(message: string): void
  /** Flushes the log, right before the process ends. Never rejects. */
  flush(): Promise<unknown>
}

/** The membership of one instance in the process. */
export interface Membership {
  /**
   * Looks for other owners of the process. Call it when the app is ready, because they have added their listeners then.
   */
  meetOthers(): OtherOwners
  /**
   * Removes this instance, which has closed. The process exits once all instances have left, if one left with an exit
   * code.
   *
   * @param exitCode `null` if this instance does not end the process
   * @param remaining what is left of its time, in milliseconds. Other listeners of the same signal may use it
   */
  leave(exitCode: 0 | 1 | null, remaining: number): void
}

/**
 * Time for other listeners of an uncaught error, in milliseconds. Crash reporters send their last event in it (Sentry's
 * `shutdownTimeout`).
 */
const crashTime = 2_000

/**
 * Key of the shared listeners. Its number is the version of `Member` and `Membership`: copies of this package with
 * different numbers do not share listeners.
 */
const sharedKey = Symbol.for('fastify-shutdown.process.3')

/** Adds an instance to the process. All instances share one set of listeners. */
export function joinProcess (member: Member): Membership {
  const shared = globalThis as unknown as Record<symbol, ReturnType<typeof shareProcess> | undefined>
  return (shared[sharedKey] ??= shareProcess()).join(member)
}

function shareProcess (): { join(member: Member): Membership } {
  const members = new Set<Member>()
  /** Members whose shutdown was started here. If there are any, the next signal is a second one. */
  const stopping = new Set<Member>()
  const secondSignal = createSecondSignal()
  let listeners = new Map<string, (value: any) => void>() // any: a signal's name or an error, by event
  let reason: ShutdownReason
  let exits = false
  let cancelBackstop = (): void => {}
  let exitCode: 0 | 1 | null = null
  /** Longest time for other listeners of the signal or error that began the shutdown; 0 if there are none. */
  let wait = 0
  let othersListen = false
  let crashed = false
  /** Members that have left, and whose logs are flushed at the exit. Empty if no exit is pending. */
  const left: Member[] = []

  return {
    join (member) {
      members.add(member)
      if (stopping.size === 0) updateListeners()
      // Stopped in a microtask: the caller has finished its setup then, and the app does not listen yet.
      else if (exits) queueMicrotask(() => { if (members.has(member)) stop([member], reason) })
      return {
        meetOthers: () => meetOtherOwners(member.signals.length === 0 ? new Map() : listeners),
        leave: (code, remaining) => leave(member, code, remaining)
      }
    }
  }

  function leave (member: Member, code: 0 | 1 | null, remaining: number): void {
    if (!members.delete(member)) return
    stopping.delete(member)
    left.push(member)
    wait = Math.max(wait, remaining)
    if (code !== null) exitCode = code === 1 || exitCode === 1 ? 1 : 0
    if (stopping.size > 0) return
    secondSignal.cancel()
    // The listeners stay until the exit, because without a listener one more signal would end the process at once.
    if (members.size === 0 && exitCode !== null) return end(exitCode)
    if (exitCode === null) {
      cancelBackstop()
      // The process continues, perhaps with new instances. Closed instances must not stay in memory.
      left.length = 0
    }
    updateListeners()
  }

  function end (code: 0 | 1): void {
    exit(code, {
      wait: !othersListen ? 0 : crashed ? crashTime : wait,
      flush: () => Promise.all(left.map(member => member.flush())),
      removeListeners: updateListeners,
      onLate: () => reportForcedExit('other listeners of the signal or error have not ended in time, the process exits')
    })
  }

  /** Updates the listeners. It adds before it removes, because a signal without a listener ends the process. */
  function updateListeners (): void {
    const wanted: typeof listeners = new Map()
    for (const member of members) {
      for (const signal of member.signals) wanted.set(signal, onSignal)
      if (member.uncaughtErrors) wanted.set('uncaughtException', onError).set('unhandledRejection', onError)
    }
    // First, because a listener that was added with `once` is removed when it is called, and must be counted before.
    for (const [event, listener] of wanted) {
      if (!listeners.has(event)) process.prependListener(event as ShutdownSignal, listener)
    }
    for (const [event, listener] of listeners) if (!wanted.has(event)) process.removeListener(event, listener)
    listeners = wanted
  }

  function onSignal (signal: ShutdownSignal): void {
    othersListen ||= countOthers(signal, onSignal) > 0
    if (stopping.size === 0) begin({ kind: 'signal', detail: signal }, member => member.signals.length > 0)
    else if (secondSignal.isDeliberate()) exitAtOnce(signal)
    secondSignal.awaitPause()
  }

  function onError (error: unknown): void {
    if (isLateTask(error)) return
    markFailed()
    crashed = true
    othersListen ||= ['uncaughtException', 'unhandledRejection'].some(event => countOthers(event, onError) > 0)
    const affected = [...members].filter(member => member.uncaughtErrors)
    for (const member of affected) member.onUncaughtError(error)
    const why: ShutdownReason = { kind: 'error', detail: toError(error).message }
    if (stopping.size === 0) begin(why, member => member.uncaughtErrors)
    else stop(affected.filter(member => !stopping.has(member)), why)
  }

  /** Stops the affected members, or all members if the process exits after that. */
  function begin (why: ShutdownReason, isAffected: (member: Member) => boolean): void {
    reason = why
    exits = [...members].some(member => member.exit && (member.signals.length > 0 || member.uncaughtErrors))
    if (exits) {
      const longest = Math.max(...Array.from(members, member => member.budget))
      cancelBackstop = startBackstop(longest, delay => {
        reportForcedExit(`not over after ${delay} ms, the process exits now`)
      })
    }
    stop([...members].filter(member => exits || isAffected(member)), reason)
  }

  function stop (stopped: readonly Member[], why: ShutdownReason): void {
    for (const member of stopped) stopping.add(member)
    for (const member of stopped) void member.start(why)
  }

  function exitAtOnce (signal: ShutdownSignal): void {
    try {
      reportForcedExit(`second ${signal}, the process exits now`)
    } finally {
      exitNow(1)
    }
  }

  function reportForcedExit (message: string): void {
    for (const member of [...members, ...left]) member.reportForcedExit(message)
  }
}

/** Returns whether a value is the error of a late task. It may be any value, such as a Proxy that throws. */
function isLateTask (error: unknown): boolean {
  try {
    return (error as Record<symbol, unknown>)[kLateTask] === true
  } catch {
    return false
  }
}
