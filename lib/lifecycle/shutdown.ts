/**
 * The shutdown, from its reason to its report. `drain` and `finish` read like the table of phases in the README:
 * running -> lame-duck -> draining -> cleaning -> shutdown.
 *
 * Every shutdown is an `app.close()`. avvio calls `drain` before Fastify stops its server, and `finish` after the last
 * onClose hook. Between the two, Fastify closes and the app's own hooks run.
 */
import type { InFlightSample, LameDuckEnd, Phase, ShutdownReason, ShutdownReport, ShutdownState } from '../../types/index'
import { ShutdownTeardownError, ShutdownTimeoutError } from '../errors'
import type { Traffic } from '../http/traffic'
import { reserveOf, type Settings } from '../options'
import type { OtherOwners } from '../process/other-owners'
import type { Member, Membership } from '../process/signals'
import type { Resources } from '../resources/resources'
import type { Teardown } from '../resources/teardown'
import { createDeferred, once } from '../util/deferred'
import { worstOutcome } from '../util/worst-outcome'
import { after, errorOf, every, excludeStops, sleep, startDeadline, within, type Deadline } from '../util/time'
import type { AppClose } from './app-close'
import { createCaller } from './caller'
import { createContainment } from './containment'
import type { Events } from './events'
import { createInFlightSamples } from './in-flight-samples'
import type { LifecycleControl } from './phases'
import type { OnProblem } from './problems'
import type { Problems } from './problems'
import { createReport, noCounts, teardownError } from './report'
import type { Tasks } from './tasks'

/** The parts that a shutdown uses: one object of each wing. */
export interface ShutdownParts {
  readonly lifecycle: LifecycleControl
  readonly settings: Pick<
    Settings, 'delay' | 'timeouts' | 'refitTimeouts' | 'newConnections' | 'onReport' | 'signals' | 'uncaughtErrors' | 'exit'
  >
  readonly state: Pick<ShutdownState, 'activeRequests' | 'activeStreams' | 'activeWebSockets'>
  readonly events: Events
  readonly tasks: Tasks
  readonly traffic: Omit<Traffic, 'inFlight' | 'servers' | 'activeWebSockets' | 'cut'>
  readonly resources: Pick<Resources, 'pause' | 'paused' | 'pendingHooks' | 'hookResults' | 'startTeardown'>
  /** `app.close()`. */
  readonly close: AppClose
  /** Adds this instance to the process. A signal or an uncaught error then begins its shutdown. */
  readonly joinProcess: (member: Member) => Membership
  /** Ends the exporters and the connections to process managers: the last step before the process may exit. */
  readonly flush: () => Promise<void>
  /** Flushes the log, which other hooks may have written to after `flush`. Never rejects. */
  readonly flushLog: () => Promise<void>
  /** Logs a line right before the process is ended by force. */
  readonly onForcedExit: (message: string) => void
  readonly problems: Problems
  readonly onProblem: OnProblem
}

/** The shutdown of one app. */
export interface ShutdownSequence {
  /**
   * Begins the shutdown, or joins the current one. Always resolves to the report, also if `app.close()` rejects or
   * never settles.
   */
  start(reason: ShutdownReason): Promise<ShutdownReport>
  /** From now on, the end of this shutdown does not end the process. */
  disableExit(): void
  /**
   * Waits for the requests, streams and tasks in flight. avvio calls it first. Never rejects.
   *
   * @returns the teardown of the resources, which has begun
   */
  drain(): Promise<Teardown>
  /**
   * Closes the remaining resources. avvio calls it last. The report is published when Fastify's close has settled.
   *
   * @throws FST_ERR_SHUTDOWN_TEARDOWN if a resource or hook did not close
   */
  finish(): Promise<void>
  /** Returns what the shutdown waits for, by name. */
  pending(): string[]
  /** Looks for other owners of the process. Call it when the app is ready. */
  meetOthers(): OtherOwners
}

/** Time for the last responses to be flushed, in milliseconds. */
const lastAnswers = 2_500

/** Time for the resources of an app whose boot never ends, in milliseconds. The total is used up. */
const abandonedTime = 1_000

/** Least time for `onReport`, also if the total is used up, in milliseconds. */
const leastReportTime = 500

/**
 * Time that a step of ours may take beyond its own timeout, in milliseconds. It is at most a quarter of the resources'
 * reserve.
 */
const longestOverrun = 1_000

/** Creates the shutdown of one app. Nothing happens before `start` or `drain` is called. */
export function createShutdown (parts: ShutdownParts): ShutdownSequence {
  const { settings, problems, onProblem } = parts
  const { delay, timeouts } = settings
  let reserve = reserveOf(timeouts)
  const overrun = Math.min(longestOverrun, reserve / 4)
  const contained = createContainment(timeOfStep, onProblem)
  const lifecycle = contained.part('lifecycle', parts.lifecycle)
  const events = contained.part('events', parts.events)
  const traffic = contained.part('traffic', parts.traffic)
  const lastRequest = contained.part('last request', parts.traffic.lastRequest)
  const tasks = contained.part('tasks', parts.tasks)
  const samples = contained.part('samples', createInFlightSamples(readInFlight, parts.lifecycle.elapsed))
  const resources = contained.part('resources', parts.resources)
  const drains = parts.traffic.drains.map(drain => contained.part(`drain of ${drain.name}`, drain))
  const drain = once(runDrain)
  const finish = once(runFinish)
  const caller = createCaller(parts, contained, drain, abandon)
  let startedAt = new Date(0)
  let teardown: Teardown | null = null
  let stopWaitingLog = (): void => {}
  let isAbandoned = false
  const finished = createDeferred<void>()

  const { start, disableExit, meetOthers } = caller
  return { start, disableExit, drain, finish, pending, meetOthers }

  async function runDrain (): Promise<Teardown> {
    // nodemon sends SIGUSR2: no load balancer is there, and the next process listens on the same port.
    const isRestart = caller.reason.kind === 'signal' && caller.reason.detail === 'SIGUSR2'
    const mayWait = caller.reason.kind !== 'close' && !isRestart && delay.max > 0 && traffic.listening
    const lameDuck = mayWait && !(delay.min === 0 && lastRequest.silence()! >= delay.quiet && await isQuiet())
    const total = lameDuck ? delay.max + timeouts.total : timeouts.total
    let deadline = begin(isAbandoned ? abandonedTime : total)
    if (lameDuck) {
      enter('lame-duck')
      for (const drain of drains) drain.enterLameDuck?.(Math.max(delay.min, delay.quiet))
      resources.pause()
      if (delay.min > 0) await sleep(delay.min)
      lifecycle.endLameDuck(await untilQuiet())
      deadline = endLameDuck()
    }
    // Before draining, so that requests on the last accepted connections are served.
    if (settings.newConnections === 'refuse' || (settings.newConnections === 'auto' && (lameDuck || isRestart))) {
      await traffic.stopListening()
      await traffic.waitForFirstBytes()
    }

    // Before `enter`, because a phase listener may end a stream, and that stream must be counted.
    traffic.failListen(caller.listenError)
    traffic.beginDraining()
    enter('draining')
    lifecycle.abort()
    for (const drain of drains) drain.beginDraining()
    resources.pause()
    const drained = await Promise.all(drains.map(drain => drain.drain(deadline.limit(drain.timeout, reserve))))
    const tasksEnd = startDeadline(deadline.limit(timeouts.tasks, reserve))
    await tasks.drain(tasksEnd.remaining())
    await resources.paused()
    await traffic.stopListening()
    const connections = await traffic.end(deadline.limit(lastAnswers, reserve))
    if (connections === undefined) traffic.destroyAll()
    // Exempt requests were served until now, and may have started tasks.
    const tasksDrained = await tasks.drain(deadline.limit(tasksEnd.remaining(), reserve))
    lifecycle.end(worstOutcome([...drained, tasksDrained, connections].map(outcome => outcome ?? 'failed')))

    enter('cleaning')
    // Time in which the process was stopped, or its event loop was blocked, does not shorten the resources' time.
    const includeStops = excludeStops()
    const cleaning = startDeadline(isAbandoned ? deadline.remaining() : Math.max(deadline.remaining(), reserve))
    lifecycle.extend(cleaning)
    teardown = parts.resources.startTeardown(cleaning)
    publishAfterClose(teardown, cleaning).catch((error: unknown) => {
      onProblem('The report could not be published', error)
    }).finally(includeStops)
    return teardown
  }

  function abandon (): void {
    isAbandoned = true
    problems.begin()
    onProblem('The app did not boot in time', new ShutdownTimeoutError('The boot', delay.max + timeouts.total))
    void drain()
  }

  async function runFinish (): Promise<void> {
    const closing = await drain()
    parts.close.runInside(() => closing.allowAll())
    const closed = await contained.part('teardown', closing).finished() ?? []
    finished.resolve(undefined)
    const error = teardownError(closed, resources.hookResults)
    if (error !== null) throw error
  }

  /**
   * Waits for Fastify's close, and publishes the report. The wait ends at the deadline: a `preClose` hook or a custom
   * server may never settle, and the hooks of plugins that were registered earlier have no deadline of their own. The
   * resources close at the beginning of their reserve at the latest.
   */
  async function publishAfterClose (closing: Teardown, deadline: Deadline): Promise<void> {
    const allowAll = (): void => parts.close.runInside(() => closing.allowAll())
    const cancelAllow = after(isAbandoned ? 0 : deadline.limit(timeouts.total, reserve), allowAll)
    const closed = parts.close.original()
    await within(deadline.remaining(), () => Promise.race([closed, finished.promise]))
    // Only the hooks of plugins that were registered earlier may still run.
    const settled = await within(deadline.limit(timeouts.resources), () => closed)
    cancelAllow()
    if (settled.status === 'late') {
      const elapsed = Math.round(parts.lifecycle.elapsed())
      onProblem('The app did not close in time', new ShutdownTimeoutError("'app.close()'", elapsed))
    } else if (settled.status === 'rejected' && !(settled.reason instanceof ShutdownTeardownError)) {
      onProblem("'app.close()' failed", settled.reason)
    }
    allowAll()
    const report = await publish(closing)
    const error = settled.status === 'rejected' ? settled.reason : null
    parts.close.settle(error ?? teardownError(report.resources, report.hooks))
  }

  async function publish (closing: Teardown): Promise<ShutdownReport> {
    const { finished, criticalPath } = contained.part('teardown', closing)
    const closed = await finished() ?? []
    const hooks = resources.hookResults
    lifecycle.end(worstOutcome([...closed, ...hooks].map(({ outcome }) => outcome)))

    enter('shutdown')
    stopWaitingLog()
    samples.end()
    lifecycle.end()
    const report = createReport(
      {
        reason: caller.reason,
        startedAt,
        durationMs: parts.lifecycle.elapsed(),
        phases: lifecycle.results,
        inFlight: samples.all,
        resources: closed,
        hooks,
        criticalPath: criticalPath(hooks) ?? [],
        problems: problems.errors
      },
      { ...noCounts, ...traffic.counts(), tasks: tasks.results() ?? [] }
    )
    events.emit({ type: 'report', report })
    await callOnReport(report)
    await contained.run('flush', parts.flush)
    caller.resolve(report)
    return report
  }

  function begin (total: number): Deadline {
    startedAt = new Date()
    problems.begin()
    const deadline = startDeadline(total)
    lifecycle.begin(caller.reason, deadline)
    traffic.begin()
    stopWaitingLog = every(1_000, emitWaiting)
    samples.begin()
    return deadline
  }

  function readInFlight (): Omit<InFlightSample, 'atMs'> | undefined {
    return contained.run('state', () => ({
      requests: parts.state.activeRequests,
      streams: parts.state.activeStreams,
      webSockets: parts.state.activeWebSockets
    }))
  }

  /** Returns whether no load balancer sends requests. Also reads those that the kernel has received already. */
  async function isQuiet (): Promise<boolean> {
    return await lastRequest.untilQuiet(delay.quiet, 0) === true
  }

  /** Waits until lame-duck may end. @returns why it ends */
  async function untilQuiet (): Promise<LameDuckEnd> {
    const { min, max, quiet } = delay
    if (min === max) return 'delay'
    return await lastRequest.untilQuiet(quiet, max - parts.lifecycle.elapsed()) === true ? 'quiet' : 'max'
  }

  /** Lame-duck is over: what it has not used is left for the rest of the shutdown. */
  function endLameDuck (): Deadline {
    settings.refitTimeouts(parts.lifecycle.elapsed())
    reserve = reserveOf(timeouts)
    const deadline = startDeadline(timeouts.total)
    lifecycle.extend(deadline)
    return deadline
  }

  /** Returns the longest time of a step that begins now: the resources' time is reserved until cleaning begins. */
  function timeOfStep (): number {
    const isCleaning = parts.lifecycle.hasReached('cleaning')
    return Math.max(0, parts.lifecycle.remaining() - (isCleaning ? 0 : reserve)) + overrun
  }

  function enter (phase: Phase): void {
    const previous = lifecycle.enter(phase) ?? parts.lifecycle.phase
    samples.take()
    const { lameDuckEnd, elapsed } = parts.lifecycle
    events.emit({ type: 'phase', phase, previous, reason: caller.reason, atMs: elapsed(), lameDuckEnd })
  }

  function pending (): string[] {
    const incoming = drains.flatMap(drain => drain.pending() ?? [])
    if (lifecycle.phase === 'draining') return [...incoming, ...parts.tasks.pending()]
    if (teardown === null || lifecycle.phase !== 'cleaning') return []
    return [
      ...teardown.pending().map(name => `resource ${name}`),
      ...parts.resources.pendingHooks(),
      ...incoming
    ]
  }

  function emitWaiting (): void {
    const names = pending()
    if (names.length === 0 && lifecycle.phase !== 'cleaning') return
    const { phase } = lifecycle
    const remainingMs = parts.lifecycle.remaining()
    events.emit({ type: 'waiting', phase, elapsedMs: parts.lifecycle.elapsed(), remainingMs, pending: names })
  }

  async function callOnReport (report: ShutdownReport): Promise<void> {
    const time = Math.max(leastReportTime, Math.min(timeouts.resources, parts.lifecycle.remaining()))
    const settled = await within(time, () => parts.close.runInside(() => settings.onReport?.(report)))
    if (settled.status !== 'fulfilled') onProblem("'onReport' failed", errorOf(settled, "'onReport'", time))
  }
}
