/**
 * The shutdown, from its reason to its report. `runDrain` reads like the table of phases in the README:
 * running -> lame-duck -> draining -> cleaning -> shutdown.
 *
 * Every shutdown is an `app.close()`. avvio calls `drain` before Fastify stops its server, and `finish` after the last
 * onClose hook. Between the two, Fastify closes and the app's own hooks run.
 */
import type { Phase, ShutdownReport } from '../../types/index'
import { ShutdownTeardownError, ShutdownTimeoutError } from '../errors'
import { reserveOf } from '../times'
import type { Teardown } from '../resources/teardown'
import { createDeferred, once } from '../util/deferred'
import { after, errorOf, excludeStops, startDeadline, within, type Deadline } from '../util/time'
import { worstOutcome } from '../util/worst-outcome'
import { createCaller } from './caller'
import { createContainment } from './containment'
import { createLameDuck } from './lame-duck'
import { createObservation } from './observation'
import { createReport, noCounts, teardownError } from './report'
import type { ShutdownParts, ShutdownSequence } from './shutdown-parts'

/** Time for the last responses to be flushed, in milliseconds. */
const lastAnswers = 2_500

/** Time for the resources of an app whose boot never ends, in milliseconds. The total is over by then. */
const abandonedTime = 1_000

/** Least time for `onReport`, also if the total is over, in milliseconds. */
const leastReportTime = 500

/**
 * Time that a step of ours may take beyond its own timeout, in milliseconds. It is a quarter of the resources' reserve,
 * within these limits.
 */
const shortestOverrun = 50
const longestOverrun = 1_000

/** Creates the shutdown of one app. Nothing happens before `start` or `drain` is called. */
export function createShutdown (parts: ShutdownParts): ShutdownSequence {
  const { settings, problems, onProblem } = parts
  const { delay, timeouts } = settings
  let reserve = reserveOf(timeouts)
  const overrun = Math.min(longestOverrun, Math.max(shortestOverrun, reserve / 4))
  const contained = createContainment(timeOfStep, onProblem)
  const lifecycle = contained.part('lifecycle', parts.lifecycle)
  const events = contained.part('events', parts.events)
  const traffic = contained.part('traffic', parts.traffic)
  const tasks = contained.part('tasks', parts.tasks)
  const resources = contained.part('resources', parts.resources)
  const drains = parts.traffic.drains.map(drain => contained.part(`drain of ${drain.name}`, drain))
  const lameDuck = contained.part(
    'lame-duck', createLameDuck(delay, parts.traffic.lastRequest, parts.lifecycle.elapsed)
  )
  const observation = contained.part('observation', createObservation(parts, contained, pending))
  const drain = once(runDrain)
  const finish = once(runFinish)
  const caller = createCaller(parts, contained, drain, abandon)
  let startedAt = new Date(0)
  let teardown: Teardown | null = null
  let isAbandoned = false
  const finished = createDeferred<void>()

  const { start, disableExit, meetOthers } = caller
  return { start, disableExit, drain, finish, pending, meetOthers }

  async function runDrain (): Promise<Teardown> {
    // nodemon sends SIGUSR2: no load balancer is there, and the next process listens on the same port.
    const isRestart = caller.reason.kind === 'signal' && caller.reason.detail === 'SIGUSR2'
    const mayWait = caller.reason.kind !== 'close' && !isRestart && delay.max > 0 && traffic.listening
    const seemsQuiet = mayWait && delay.min === 0 && lameDuck.seemsQuiet() === true
    const hasLameDuck = mayWait && !(seemsQuiet && await lameDuck.isQuiet() === true)
    let deadline = begin(isAbandoned ? abandonedTime : hasLameDuck ? delay.max + timeouts.total : timeouts.total)

    if (hasLameDuck) deadline = await runLameDuck()
    // Before draining, so that requests on the last accepted connections are served.
    if (settings.newConnections === 'refuse' || (settings.newConnections === 'auto' && (hasLameDuck || isRestart))) {
      await traffic.stopListening()
      await traffic.waitForFirstBytes()
    }
    await runDraining(deadline)
    return startCleaning(deadline)
  }

  /** Still serves, until the load balancers have noticed. @returns the deadline of the rest */
  async function runLameDuck (): Promise<Deadline> {
    enter('lame-duck')
    for (const drain of drains) drain.enterLameDuck?.(Math.max(delay.min, delay.quiet))
    resources.pause()
    lifecycle.endLameDuck(await lameDuck.wait() ?? 'max')
    // What lame-duck has not used is left for the rest of the shutdown.
    settings.refitTimeouts(parts.lifecycle.elapsed())
    reserve = reserveOf(timeouts)
    const deadline = startDeadline(timeouts.total)
    lifecycle.extend(deadline)
    return deadline
  }

  /** Rejects new requests, and waits for the requests, streams and tasks in flight. */
  async function runDraining (deadline: Deadline): Promise<void> {
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
  }

  /** Begins to close the resources. Fastify closes at the same time, and the report follows. */
  function startCleaning (deadline: Deadline): Teardown {
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
      onProblem('The app did not close in time', new ShutdownTimeoutError(`'${parts.close.name}'`, elapsed))
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
    observation.end()
    lifecycle.end()
    const report = createReport(
      {
        reason: caller.reason,
        startedAt,
        durationMs: parts.lifecycle.elapsed(),
        phases: lifecycle.results,
        inFlight: observation.samples,
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
    observation.begin()
    return deadline
  }

  /** Returns the longest time of a step that begins now: the resources' time is reserved until cleaning begins. */
  function timeOfStep (): number {
    const isCleaning = parts.lifecycle.hasReached('cleaning')
    return Math.max(0, parts.lifecycle.remaining() - (isCleaning ? 0 : reserve)) + overrun
  }

  function enter (phase: Phase): void {
    const previous = lifecycle.enter(phase) ?? parts.lifecycle.phase
    observation.takeSample()
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

  async function callOnReport (report: ShutdownReport): Promise<void> {
    const time = Math.max(leastReportTime, Math.min(timeouts.resources, parts.lifecycle.remaining()))
    const settled = await within(time, () => parts.close.runInside(() => settings.onReport?.(report)))
    if (settled.status !== 'fulfilled') onProblem("'onReport' failed", errorOf(settled, "'onReport'", time))
  }
}
