/**
 * The shutdown, from its reason to its report. `drain` and `finish` read like the table of phases in the README:
 * running -> lame-duck -> draining -> cleaning -> shutdown.
 *
 * Every shutdown is an `app.close()`. avvio calls `drain` before Fastify stops its server, and `finish` after the last onClose
 * hook. Between the two, Fastify closes and the app's own hooks run.
 */
import type { Phase, ShutdownReason, ShutdownReport } from '../../types/index'
import { ShutdownLateError, ShutdownTeardownError } from '../errors'
import type { Traffic } from '../http/traffic'
import { reserveOf, type Settings } from '../options'
import type { Member, Membership } from '../process/signals'
import type { Resources } from '../resources/resources'
import type { Teardown } from '../resources/teardown'
import { createDeferred, once } from '../util/deferred'
import { worstOutcome } from '../util/worst-outcome'
import { every, sleep, startDeadline, within, type Deadline } from '../util/time'
import type { Events } from './events'
import type { LifecycleControl } from './phases'
import { createReport, failuresOf } from './report'
import type { Tasks } from './tasks'

/** The parts of a shutdown. Each wing hands in its face. */
export interface ShutdownParts {
  readonly lifecycle: LifecycleControl
  readonly settings: Pick<Settings, 'delay' | 'timeouts' | 'newConnections' | 'onReport' | 'signals' | 'uncaughtErrors' | 'exit'>
  readonly events: Events
  readonly tasks: Tasks
  readonly traffic: Pick<Traffic, 'drains' | 'listening' | 'begin' | 'stopListening' | 'waitForFirstBytes' | 'beginDraining' | 'end' | 'beginCleaning' | 'rejectListen' | 'counts'>
  readonly resources: Pick<Resources, 'pause' | 'paused' | 'pendingHooks' | 'hookResults' | 'startTeardown'>
  /** Closes the app. */
  readonly close: () => PromiseLike<unknown>
  /** Makes this instance one of those that a signal or a crash shuts down. */
  readonly joinProcess: (member: Member) => Membership
  /** Ends what may still log, measure or report to a process manager: the last step before the process may go. */
  readonly flush: () => Promise<void>
  /** Logs a line right before the process is ended by force. */
  readonly onForcedExit: (message: string) => void
  readonly onProblem: (message: string, error: unknown) => void
}

/** The shutdown of one app. */
export interface ShutdownSequence {
  /** Begins the shutdown, or joins it. Always resolves to the report, also where `app.close()` rejects or never settles. */
  start(reason: ShutdownReason): Promise<ShutdownReport>
  /** Waits for what is in flight. avvio calls it first. Never rejects. @returns the teardown of the resources, which has begun */
  drain(): Promise<Teardown>
  /** Closes what is left and publishes the report. avvio calls it last. @throws FST_ERR_SHUTDOWN_TEARDOWN where something did not close */
  finish(): Promise<void>
  /** What the shutdown waits for, by name. */
  pending(): string[]
}

/** Time for the last answers, once all that was in flight is over, in milliseconds. */
const lastAnswers = 2_500

/** Least time for `onReport`, also where the total is used up, in milliseconds. */
const leastReportTime = 500

/** Time for the hooks of plugins that were registered before this one and run after `finish`, in milliseconds. */
const afterReport = 1_000

/** Time beyond the whole budget until a shutdown counts as stuck, in milliseconds. */
const backstop = 2_000

const longestTimer = 2 ** 31 - 1

export function createShutdown (parts: ShutdownParts): ShutdownSequence {
  const { lifecycle, settings, events, tasks, traffic, resources } = parts
  const { delay, timeouts } = settings
  const reserve = reserveOf(timeouts)
  const drain = once(runDrain)
  const caller = createCaller(parts, drain)
  let startedAt = new Date(0)
  let teardown: Teardown | null = null
  let stopWaitingLog = (): void => {}

  return { start: caller.start, drain, finish, pending }

  async function runDrain (): Promise<Teardown> {
    const lameDuck = caller.reason.kind !== 'close' && delay > 0 && traffic.listening
    const deadline = begin(lameDuck ? delay + timeouts.total : timeouts.total)
    if (lameDuck) {
      enter('lame-duck')
      for (const drain of traffic.drains) drain.enterLameDuck?.(delay)
      resources.pause()
      await sleep(delay)
    }
    // While requests are still served: the last connections to be accepted get an answer.
    if (settings.newConnections === 'refuse' || (settings.newConnections === 'auto' && lameDuck)) {
      await traffic.stopListening()
      await traffic.waitForFirstBytes()
    }

    // Before the listeners of the phase: one of them may end a stream.
    traffic.rejectListen(caller.left)
    traffic.beginDraining()
    enter('draining')
    lifecycle.abort()
    for (const drain of traffic.drains) drain.beginDraining()
    resources.pause()
    const drained = await Promise.all(traffic.drains.map(drain => drain.drain(deadline.stage(drain.timeout, reserve))))
    await tasks.drain(deadline.stage(timeouts.tasks, reserve))
    await resources.paused()
    await traffic.stopListening()
    const connections = await traffic.end(deadline.stage(lastAnswers, reserve))
    // An exempt request, served until now, may have started one more task.
    const tasksDrained = await tasks.drain(deadline.stage(timeouts.tasks, reserve))
    lifecycle.end(worstOutcome([...drained, tasksDrained, connections]))

    enter('cleaning')
    traffic.beginCleaning()
    teardown = resources.startTeardown(deadline)
    return teardown
  }

  async function finish (): Promise<void> {
    const closing = await drain()
    closing.allowAll()
    const closed = await closing.finished()
    const hooks = resources.hookResults
    lifecycle.end(worstOutcome([...closed, ...hooks].map(({ outcome }) => outcome)))

    enter('shutdown')
    stopWaitingLog()
    lifecycle.end()
    const report = createReport(
      { reason: caller.reason, startedAt, durationMs: lifecycle.elapsed(), phases: lifecycle.results, resources: closed, hooks, criticalPath: closing.criticalPath() },
      { ...traffic.counts(), tasks: tasks.results(), crashed: caller.crashed }
    )
    events.emit({ type: 'report', report })
    await callOnReport(report)
    await parts.flush()
    caller.resolve(report)
    const failures = failuresOf(report)
    if (failures.length > 0) throw new ShutdownTeardownError(failures)
  }

  function begin (total: number): Deadline {
    startedAt = new Date()
    const deadline = startDeadline(total)
    lifecycle.begin(caller.reason, deadline)
    traffic.begin()
    stopWaitingLog = every(1_000, emitWaiting)
    return deadline
  }

  function enter (phase: Phase): void {
    const previous = lifecycle.enter(phase)
    events.emit({ type: 'phase', phase, previous, reason: caller.reason, atMs: lifecycle.elapsed() })
  }

  function pending (): string[] {
    const incoming = traffic.drains.flatMap(drain => drain.pending())
    if (lifecycle.phase === 'draining') return [...incoming, ...tasks.pending().map(name => `task ${name}`)]
    if (teardown === null || lifecycle.phase !== 'cleaning') return []
    return [...teardown.pending().map(name => `resource ${name}`), ...resources.pendingHooks().map(name => `onClose hook of ${name}`), ...incoming]
  }

  function emitWaiting (): void {
    const names = pending()
    if (names.length === 0 && lifecycle.phase !== 'cleaning') return
    events.emit({ type: 'waiting', phase: lifecycle.phase, elapsedMs: lifecycle.elapsed(), remainingMs: lifecycle.remaining(), pending: names })
  }

  async function callOnReport (report: ShutdownReport): Promise<void> {
    const time = Math.max(leastReportTime, Math.min(timeouts.resources, lifecycle.remaining()))
    const settled = await within(time, () => settings.onReport?.(report))
    if (settled.status === 'rejected') parts.onProblem("'onReport' threw", settled.reason)
  }
}

/** The side of the caller: `start()`, a signal or a crash on one end, the report and the exit on the other. */
interface Caller {
  /** What began the shutdown, or a plain `app.close()`. */
  readonly reason: ShutdownReason
  readonly crashed: boolean
  /** Resolves when this instance has closed and the process goes on, to the error of a `listen()` that comes too late. */
  readonly left: Promise<Error>
  start(reason: ShutdownReason): Promise<ShutdownReport>
  /** The report is published, and the logs are flushed. */
  resolve(report: ShutdownReport): void
}

function createCaller ({ lifecycle, settings, traffic, joinProcess, close, onForcedExit, onProblem }: ShutdownParts, drain: () => Promise<Teardown>): Caller {
  const { exit, signals } = settings
  const budget = settings.delay + settings.timeouts.total
  const reported = createDeferred<ShutdownReport>()
  const left = createDeferred<Error>()
  const run = once(closeApp)
  let reason: ShutdownReason = { kind: 'close', detail: 'app.close()' }
  let started = false
  let crashed = false

  const membership = joinProcess({
    signals: signals === false ? [] : signals,
    uncaughtErrors: settings.uncaughtErrors,
    exit,
    budget,
    start,
    onUncaughtError (error) {
      crashed = true
      onProblem('uncaught error', error)
    },
    reportForcedExit: onForcedExit
  })
  return {
    get reason () { return reason },
    get crashed () { return crashed },
    left: left.promise,
    start,
    resolve (report) {
      reported.resolve(report)
      if (!started) leave(null)
    }
  }

  function start (why: ShutdownReason): Promise<ShutdownReport> {
    if (!started && lifecycle.reason === null) reason = why
    started = true
    return run()
  }

  async function closeApp (): Promise<ShutdownReport> {
    // Before it is ready, `close()` finishes the boot first, and the phases begin after that.
    if (lifecycle.booted) await drain()
    else traffic.rejectListen(left.promise)
    const closed = Promise.allSettled([close()])
    const settled = await within(Math.min(longestTimer, budget + backstop), () => reported.promise)
    if (settled.status === 'late') {
      // Each of our steps has its time. A boot that never ends has none, and `close()` waits for it.
      onForcedExit('not over in time, nobody waits for it any more')
      leave(exit ? 1 : null)
    }
    const report = await reported.promise
    await within(afterReport, () => closed)
    leave(exit ? report.exitCode : null)
    return report
  }

  function leave (exitCode: 0 | 1 | null): void {
    membership.leave(exitCode)
    // A caller of `listen()` may end the process when it is refused: not where we are about to end it.
    if (exitCode === null) left.resolve(new ShutdownLateError('listen()', lifecycle.phase))
  }
}
