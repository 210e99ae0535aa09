/**
 * The shutdown, from its reason to its report. `drain` and `finish` read like the table of phases in the README:
 * running -> lame-duck -> draining -> cleaning -> shutdown.
 *
 * Every shutdown is an `app.close()`. avvio calls `drain` before Fastify stops its server, and `finish` after the last
 * onClose hook. Between the two, Fastify closes and the app's own hooks run.
 */
import type { Phase, ShutdownReason, ShutdownReport } from '../../types/index'
import { ShutdownTeardownError } from '../errors'
import type { Traffic } from '../http/traffic'
import { reserveOf, type Settings } from '../options'
import type { Member, Membership } from '../process/signals'
import type { Resources } from '../resources/resources'
import type { Teardown } from '../resources/teardown'
import { once } from '../util/deferred'
import { worstOutcome } from '../util/worst-outcome'
import { every, sleep, startDeadline, within, type Deadline } from '../util/time'
import { createCaller } from './caller'
import type { Events } from './events'
import type { LifecycleControl } from './phases'
import { createReport, failuresOf } from './report'
import type { Tasks } from './tasks'

/** The parts that a shutdown uses: one object of each wing. */
export interface ShutdownParts {
  readonly lifecycle: LifecycleControl
  readonly settings: Pick<
    Settings, 'delay' | 'timeouts' | 'newConnections' | 'onReport' | 'signals' | 'uncaughtErrors' | 'exit'
  >
  readonly events: Events
  readonly tasks: Tasks
  readonly traffic: Omit<Traffic, 'inFlight' | 'servers' | 'activeWebSockets' | 'cut'>
  readonly resources: Pick<Resources, 'pause' | 'paused' | 'pendingHooks' | 'hookResults' | 'startTeardown'>
  /** Closes the app. */
  readonly close: () => PromiseLike<unknown>
  /** Adds this instance to the process. A signal or an uncaught error then begins its shutdown. */
  readonly joinProcess: (member: Member) => Membership
  /** Ends the exporters and the connections to process managers: the last step before the process may exit. */
  readonly flush: () => Promise<void>
  /** Logs a line right before the process is ended by force. */
  readonly onForcedExit: (message: string) => void
  readonly onProblem: (message: string, error: unknown) => void
}

/** The shutdown of one app. */
export interface ShutdownSequence {
  /**
   * Begins the shutdown, or joins the current one. Always resolves to the report, also if `app.close()` rejects or
   * never settles.
   */
  start(reason: ShutdownReason): Promise<ShutdownReport>
  /**
   * Waits for the requests, streams and tasks in flight. avvio calls it first. Never rejects.
   *
   * @returns the teardown of the resources, which has begun
   */
  drain(): Promise<Teardown>
  /**
   * Closes the remaining resources and publishes the report. avvio calls it last.
   *
   * @throws FST_ERR_SHUTDOWN_TEARDOWN if a resource or hook did not close
   */
  finish(): Promise<void>
  /** Returns what the shutdown waits for, by name. */
  pending(): string[]
}

/** Time for the last responses to be flushed, in milliseconds. */
const lastAnswers = 2_500

/** Least time for `onReport`, also if the total is used up, in milliseconds. */
const leastReportTime = 500

/** Creates the shutdown of one app. Nothing happens before `start` or `drain` is called. */
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
    // Before draining, so that requests on the last accepted connections are served.
    if (settings.newConnections === 'refuse' || (settings.newConnections === 'auto' && lameDuck)) {
      await traffic.stopListening()
      await traffic.waitForFirstBytes()
    }

    // Before `enter`, because a phase listener may end a stream, and that stream must be counted.
    traffic.failListen(caller.listenError)
    traffic.beginDraining()
    enter('draining')
    lifecycle.abort()
    for (const drain of traffic.drains) drain.beginDraining()
    resources.pause()
    const drained = await Promise.all(traffic.drains.map(drain => drain.drain(deadline.limit(drain.timeout, reserve))))
    await tasks.drain(deadline.limit(timeouts.tasks, reserve))
    await resources.paused()
    await traffic.stopListening()
    const connections = await traffic.end(deadline.limit(lastAnswers, reserve))
    // Exempt requests were served until now, and may have started tasks.
    const tasksDrained = await tasks.drain(deadline.limit(timeouts.tasks, reserve))
    lifecycle.end(worstOutcome([...drained, tasksDrained, connections]))

    enter('cleaning')
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
      {
        reason: caller.reason,
        startedAt,
        durationMs: lifecycle.elapsed(),
        phases: lifecycle.results,
        resources: closed,
        hooks,
        criticalPath: closing.criticalPath()
      },
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
    return [
      ...teardown.pending().map(name => `resource ${name}`),
      ...resources.pendingHooks().map(name => `onClose hook of ${name}`),
      ...incoming
    ]
  }

  function emitWaiting (): void {
    const names = pending()
    if (names.length === 0 && lifecycle.phase !== 'cleaning') return
    const { phase } = lifecycle
    const remainingMs = lifecycle.remaining()
    events.emit({ type: 'waiting', phase, elapsedMs: lifecycle.elapsed(), remainingMs, pending: names })
  }

  async function callOnReport (report: ShutdownReport): Promise<void> {
    const time = Math.max(leastReportTime, Math.min(timeouts.resources, lifecycle.remaining()))
    const settled = await within(time, () => settings.onReport?.(report))
    if (settled.status === 'rejected') parts.onProblem("'onReport' threw", settled.reason)
  }
}
