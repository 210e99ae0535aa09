/** The rules of a shutdown. Most are checked at each step, and the others when the shutdown is over. */
import type { Events } from '../../lib/lifecycle/events'
import { phases, type LifecycleControl } from '../../lib/lifecycle/phases'
import type { Problems } from '../../lib/lifecycle/problems'
import type { Tasks } from '../../lib/lifecycle/tasks'
import { backstop } from '../../lib/process/backstop'
import { reserveOf } from '../../lib/times'
import type { Phase, ResourceResult, ShutdownReport } from '../../types/index'
import { isFault, isStuck } from './behaviour'
import { settle, type VirtualClock } from './clock'
import type { SimulatedProcess } from './process'
import { callTime, signalPause, type Call, type HookPlan, type ResourcePlan, type Scenario } from './scenario'
import type { RequestPlan, SimulatedServer } from './server'

/** A rule that a shutdown has broken. */
export class Broken extends Error {}

/** Time after `delay` and the total at which the shutdown must be over, in milliseconds: the backstop and its timers. */
const slack = backstop + 100

/** What the rules look at. */
export interface RulesOptions {
  readonly scenario: Scenario
  readonly clock: VirtualClock
  readonly lifecycle: LifecycleControl
  readonly events: Events
  readonly tasks: Tasks
  readonly server: SimulatedServer
  readonly problems: Problems
  readonly simulatedProcess: SimulatedProcess
}

export type Rules = ReturnType<typeof createRules>

/** Creates the rules of one shutdown. The parts of the simulation call the methods `on…` when something happens. */
export function createRules (
  { scenario, clock, lifecycle, events, tasks, server, problems, simulatedProcess }: RulesOptions
) {
  const { settings: { delay, timeouts, categoryTime, givenTimeouts, newConnections, exit } } = scenario
  const reserve = reserveOf(timeouts)
  const { exits } = simulatedProcess
  const broken: Broken[] = []
  const seen: Phase[] = []
  const published: ShutdownReport[] = []
  const settled = new Map<string, ResourceResult>()
  /** Name -> the time at which it began to close, and the time that it then had. */
  const closed = new Map<string, { readonly at: number, readonly remaining: number, readonly signal: AbortSignal }>()
  const pauses = new Map<string, { readonly phase: Phase, over: boolean }>()
  const forced = new Set<string>()
  /** Resources that were added late -> whether the order of the others was fixed then. */
  const late = new Map<string, boolean>()
  const removed = new Set<string>()
  const hooksBegun = new Set<string>()
  /** The hooks with a result. They run one after the other. */
  const hooksOver = new Set<string>()
  let runningHook: string | null = null
  const hooks = scenario.hooks.filter(({ plugin }) => plugin !== 'earlier')
  const drainCalls: string[] = []
  const follows: { readonly what: 'start' | 'close', state: 'pending' | 'fulfilled' | 'rejected' }[] = []
  const cuts = { atWork: 0, all: 0, byDrain: 0 }
  let begun: { readonly at: number, readonly silence: number, readonly stats: SimulatedServer['stats'], readonly size: number } | null = null
  let draining: { readonly at: number, readonly limit: number } | null = null
  let stoppedListeningIn: Phase | null = null
  let lameDuckMs: number | null = null
  const calls: { readonly at: number, readonly kind: Call }[] = []
  let forcedExits = 0
  let owner: { over: number | null } | null = null
  let reportedAt: { readonly at: number, readonly remaining: number } | null = null
  let mustExitAtOnce: number | null = null

  events.listen(event => {
    if (event.type === 'phase') {
      const { phase } = event
      note(phases.indexOf(phase) > phases.indexOf(seen.at(-1) ?? 'running'), `phase ${phase} after ${seen.at(-1)}`)
      note(!lifecycle.signal.aborted || phase === 'cleaning' || phase === 'shutdown', `the signal is aborted before ${phase}`)
      seen.push(phase)
      if (phase === 'draining') draining = { at: clock.now(), limit: Math.max(0, lifecycle.remaining() - reserve) }
      if (phase === 'cleaning') {
        note(lifecycle.signal.aborted, 'the signal is not aborted in cleaning')
        note(stoppedListeningIn !== null, 'the server still listens in cleaning')
      }
    }
    if (event.type === 'resource') {
      note(!settled.has(event.result.name), `${event.result.name} has two results`)
      settled.set(event.result.name, event.result)
    }
    if (event.type === 'hook' && runningHook !== null) hooksOver.add(runningHook)
    if (event.type === 'request-cut') {
      cuts.all++
      const { stats: { received, completed, rejected, aborted, cut }, size } = server
      note(received === completed + rejected + aborted + cut + size, 'the counts of the server do not sum up')
    }
    if (event.type === 'report') {
      published.push(event.report)
      reportedAt = { at: clock.now(), remaining: lifecycle.remaining() }
      note(Object.isFrozen(event.report) && Object.isFrozen(event.report.phases), 'the report is not frozen')
    }
    if (event.type === scenario.listenerThrowsAt) throw new Error('listener')
  })

  return {
    note,
    untilEnd,
    checkEnd,

    onBegin () {
      note(begun === null, 'the shutdown begins twice')
      begun = { at: clock.now(), silence: server.lastRequest.silence(), stats: { ...server.stats }, size: server.size }
    },
    onLameDuckEnd (elapsed: number) {
      note(lameDuckMs === null, 'lame-duck ends twice')
      lameDuckMs = elapsed
      const { lameDuckEnd } = lifecycle
      note(elapsed >= delay.min - 1 && elapsed <= delay.max + 1, `lame-duck takes ${elapsed} ms, and ends by ${lameDuckEnd}`)
      if (lameDuckEnd === 'quiet') note(server.lastRequest.silence() >= delay.quiet - 1, 'lame-duck ends before it is quiet')
      else note(elapsed >= delay.max - 1, `lame-duck ends by ${lameDuckEnd} after ${elapsed} ms`)
      // Its clients have noticed: nothing else ends it earlier.
      if (lameDuckEnd === 'max') note(server.lastRequest.silence() < delay.quiet, 'lame-duck is quiet, and ends by its maximum')
    },
    onStopListening () { stoppedListeningIn ??= lifecycle.phase },
    onDrain (call: 'enterLameDuck' | 'beginDraining' | 'drain', ms?: number) {
      note(!drainCalls.includes(call), `${call} is called twice`)
      drainCalls.push(call)
      if (ms !== undefined) note(ms <= timeouts.streams && ms <= draining!.limit, `a drain has ${ms} ms`)
    },

    /** A request is cut. If its drain does it, its time must be up. */
    onCut (plan: RequestPlan, isByDrain: boolean) {
      if (plan.waitsFor === 'app') cuts.atWork++
      if (!isByDrain) return
      cuts.byDrain++
      const since = clock.now() - draining!.at
      note(since >= Math.min(timeOf(plan), draining!.limit) - 1, `a request is cut after ${since} ms: ${JSON.stringify(plan)}`)
    },
    /** A request that the drain has waited for is over: its time must not be up. */
    onComplete (plan: RequestPlan) {
      if (draining === null) return
      const since = clock.now() - draining.at
      const isExtended = plan.category === null && plan.hasBegun && !givenTimeouts.includes(nameOf(plan))
      const longest = isExtended ? draining.limit : Math.min(timeOf(plan), draining.limit)
      note(since <= longest + 5, `a request completes after ${since} ms: ${JSON.stringify(plan)}`)
    },

    onPause (plan: ResourcePlan) {
      note(!pauses.has(plan.name), `${plan.name} pauses twice`)
      pauses.set(plan.name, { phase: lifecycle.phase, over: false })
    },
    onPauseEnd ({ name }: ResourcePlan) { pauses.get(name)!.over = true },
    onClose,
    onForce ({ name, timeout }: ResourcePlan) {
      const { at, remaining, signal } = closed.get(name)!
      const own = timeout ?? timeouts.resources
      const since = clock.now() - at
      note(!forced.has(name), `${name} is forced twice`)
      note(signal.aborted, `${name} is forced, and its signal is not aborted`)
      note(since >= Math.min(own, remaining - Math.min(1_000, own / 10)) - 1, `${name} is forced after ${since} ms of ${own}`)
      forced.add(name)
    },
    onAdd ({ name }: ResourcePlan) { late.set(name, lifecycle.hasReached('cleaning')) },
    onRemove ({ name }: ResourcePlan) { if (!lifecycle.hasReached('cleaning')) removed.add(name) },

    onHook (plan: HookPlan) {
      const { id, kind, plugin } = plan
      note(!hooksBegun.has(id), `${id} runs twice`)
      if (kind === 'onClose' && plugin !== 'earlier') checkBeforeHook(plan)
      hooksBegun.add(id)
      if (plugin !== 'earlier') runningHook = id
      if (plugin !== 'earlier') note(lifecycle.phase === 'cleaning' || published.length > 0, `${id} runs in phase ${lifecycle.phase}`)
    },

    onCall (kind: Call) {
      const lastSignal = calls.findLast(call => call.kind === 'signal')
      calls.push({ at: clock.now(), kind })
      if (kind === 'signal' && lastSignal !== undefined && clock.now() - lastSignal.at > signalPause) {
        mustExitAtOnce ??= clock.now()
      }
    },
    onForcedExit () { forcedExits++ },
    onOwner () { owner ??= { over: null } },
    onOwnerEnd () { if (owner !== null) owner.over ??= clock.now() },
    /** The promise of a caller. `start()` never rejects. */
    follow (what: 'start' | 'close', promise: Promise<unknown>) {
      const follow: (typeof follows)[number] = { what, state: 'pending' }
      follows.push(follow)
      promise.then(() => {
        note(published.length === 1, `${what} resolves before the report`)
        follow.state = 'fulfilled'
      }, () => { follow.state = 'rejected' })
    }
  }

  /** Notes a rule that is broken. A throw would be contained. */
  function note (holds: boolean, rule: string): void {
    if (!holds) broken.push(new Broken(`${rule}\n${JSON.stringify(scenario, null, 1)}`))
  }

  function nameOf ({ kind }: RequestPlan): 'streams' | 'requests' {
    return kind === 'stream' ? 'streams' : 'requests'
  }

  function timeOf (plan: RequestPlan): number {
    return plan.category === null ? timeouts[nameOf(plan)] : categoryTime
  }

  /** Whether the resources still wait for their turn among the hooks. Later, they close for lack of time. */
  function isInTurn (): boolean {
    return scenario.boot !== 'never' && lifecycle.remaining() > reserve + 1
  }

  /** Whether a resource is a part of the order. */
  function isOrdered ({ name, added }: ResourcePlan): boolean {
    return !removed.has(name) && (added !== 'late' || late.get(name) === false)
  }

  /** The names that a resource uses, directly or not. */
  function usedBy (plan: ResourcePlan): Set<string> {
    const used = new Set(plan.dependsOn)
    for (const name of used) {
      for (const each of scenario.resources) if (each.name === name) each.dependsOn.forEach(other => used.add(other))
    }
    return used
  }

  function onClose (plan: ResourcePlan, signal: AbortSignal): void {
    const { name, last, pause, added } = plan
    note(!closed.has(name), `${name} closes twice`)
    note(!signal.aborted, `${name} closes with an aborted signal`)
    closed.set(name, { at: clock.now(), remaining: lifecycle.remaining(), signal })
    note(tasks.active === 0, `${name} closes under a task`)
    note(server.size === 0, `${name} closes under a request`)
    note(lifecycle.phase === 'cleaning', `${name} closes in phase ${lifecycle.phase}`)
    if (!isOrdered(plan)) return
    for (const each of scenario.resources.filter(isOrdered)) {
      if (each.dependsOn.includes(name)) note(settled.has(each.name), `${name} closes under its dependant ${each.name}`)
      if (last && !closesLast(each)) note(settled.has(each.name), `${name} is last, and closes before ${each.name}`)
    }
    if (pause !== null) note(pauses.has(name), `${name} closes, and was not paused`)
    if (pause !== null && added !== 'late' && scenario.hasTime && !scenario.trafficFails && scenario.boot !== 'never' && !isFault(pause)) {
      note(pauses.get(name)!.over, `${name} closes while it pauses`)
    }
    if (isInTurn()) for (const hook of hooksBefore(plan)) note(hooksOver.has(hook.id), `${name} closes before ${hook.id}`)
  }

  function closesLast ({ name }: ResourcePlan): boolean {
    return scenario.resources.some(each => each.last && isOrdered(each) && (each.name === name || usedBy(each).has(name)))
  }

  /** Returns the hooks that run before a resource: those that were added after it, or all, if it has no position. */
  function hooksBefore (plan: ResourcePlan): HookPlan[] {
    const used = usedBy(plan)
    // The hooks of a plugin that it uses run after it. If it is `last`, they run after all others.
    if (usesPlugin(used) || plan.added === 'late') return []
    if (scenario.resources.some(each => each.last && isOrdered(each) && usesPlugin(usedBy(each)))) return []
    const position = (each: ResourcePlan): number => each.added === 'plugin' ? scenario.resources.indexOf(each) : -1
    // Without a position, it closes right before what it uses.
    const places = plan.added === 'plugin'
      ? [position(plan)]
      : [-1, ...scenario.resources.filter(({ name }) => used.has(name)).map(position)]
    return hooks.slice(Math.max(...places) + 1).filter(({ kind }) => kind === 'onClose')
  }

  function usesPlugin (names: ReadonlySet<string>): boolean {
    return ['p0', 'p1', 'p2'].some(plugin => names.has(plugin))
  }

  function checkBeforeHook ({ id, plugin }: HookPlan): void {
    if (scenario.boot === 'never') return
    for (const plan of scenario.resources.filter(isOrdered)) {
      if (plan.dependsOn.includes(plugin)) note(settled.has(plan.name), `${id} of ${plugin} runs before ${plan.name}, which uses it`)
      const isClosing = closed.has(plan.name) && !settled.has(plan.name)
      if (isInTurn() && late.size === 0) note(!isClosing, `${id} runs while ${plan.name} closes`)
    }
  }

  function checkStep (): void {
    const { stats: { received, completed, rejected, aborted, cut }, size } = server
    note(received === completed + rejected + aborted + cut + size, 'the counts of the server do not sum up')
    const isDraining = lifecycle.hasReached('draining')
    note(lifecycle.signal.aborted === isDraining, `the signal is ${isDraining ? 'not ' : ''}aborted in ${lifecycle.phase}`)
    if (lifecycle.hasReached('cleaning')) note(size === 0 && tasks.active === 0, 'something is in flight in cleaning')
    if (begun === null) note(problems.errors.length === 0 || scenario.calls.some(({ kind }) => kind === 'error'), 'an error before the shutdown')
    const [rule] = broken
    if (rule !== undefined) throw rule
  }

  async function untilEnd (): Promise<void> {
    const wait = scenario.boot === 'late' ? scenario.bootAt - callTime : 0
    const limit = callTime + wait + delay.max + timeouts.total + slack
    await settle()
    while (published.length === 0) {
      checkStep()
      note(await clock.next(limit), `it is not over ${limit - callTime} ms after its beginning`)
    }
    checkStep()
    const { at } = reportedAt!
    const mayExit = mustExitAtOnce !== null || isExpectedToExit()
    // After a second signal, the rest is played all the same: the next simulation begins where nothing is left.
    const isOver = (): boolean => exits.length > 0 && mustExitAtOnce === null
    do {
      checkStep()
      // No listener of ours is left, and the other owner is done: nothing keeps the process alive.
      const isFree = mayExit && owner?.over != null && simulatedProcess.listeners('SIGTERM') === 0
      if (isFree && exits.length === 0) simulatedProcess.endByItself()
    } while (!isOver() && await clock.next(at + 20_000))
    // What was late settles now. It must have no effect.
    for (let steps = 0; exits.length === 0 && await clock.next(Infinity); steps++) {
      note(steps < 1_000, 'a timer never ends')
      checkStep()
    }
  }

  function isExpectedToExit (): boolean {
    return exit && calls.some(({ kind }) => kind !== 'close')
  }

  function checkEnd (): ShutdownReport {
    const report = published[0]!
    note(published.length === 1, `${published.length} reports`)
    checkExit(report)
    checkOutcome(report)
    checkPhases(report)
    checkResources(report)
    checkHooks(report)
    checkCounts(report)
    for (const { what, state } of follows) {
      note(state !== 'pending', `${what} never settles`)
      if (what === 'start') note(state === 'fulfilled', 'start rejects')
      else if (scenario.hooks.every(({ plugin }) => plugin !== 'earlier') && scenario.serverClose === null) {
        const hasFailed = [...report.resources, ...report.hooks].some(({ outcome }) => outcome === 'failed' || outcome === 'abandoned')
        note((state === 'rejected') === hasFailed, `close is ${state}`)
      }
    }
    const [rule] = broken
    if (rule !== undefined) throw rule
    return report
  }

  function checkExit (report: ShutdownReport): void {
    const hasCrashed = calls.some(({ kind }) => kind === 'error')
    if (hasCrashed) note(simulatedProcess.exitCode === 1, `after a crash, the exit code is ${simulatedProcess.exitCode}`)
    if (mustExitAtOnce !== null) {
      note(exits[0]?.at === mustExitAtOnce && exits[0].code === 1, 'the second signal does not end the process')
      return
    }
    if (!isExpectedToExit()) {
      note(exits.length === 0, 'the process exits')
      return
    }
    note(exits.length === 1, `${exits.length} exits`)
    const { at, code } = exits[0]!
    const { onReport, flush, listenerThrowsAt, flushLog } = scenario
    const fails = report.exitCode === 1 || hasCrashed || isFault(flush) ||
      (onReport !== null && isFault(onReport)) || listenerThrowsAt === 'report'
    note(code === (fails ? 1 : 0), `the process exits with ${code}`)
    // If the boot never ends, the backstop may come first.
    if (onReport !== null || flush.kind !== 'works at once' || scenario.boot === 'never') return
    const { at: reported, remaining } = reportedAt!
    const wait = owner === null ? 0 : hasCrashed ? 2_000 : Math.min(timeouts.resources, remaining)
    const due = Math.min(Math.max(reported, owner?.over ?? Infinity), reported + wait)
    // The backstop may come first.
    const earliest = Math.min(due, callTime + delay.max + timeouts.total + backstop)
    note(at >= earliest - 1 && at <= due + flushLog + 2, `the process exits ${at - reported} ms after the report, expected ${due - reported}`)
    // The owner may not be done in time.
    if (owner === null) note(forcedExits === 0, 'the process is ended by force')
  }

  function checkOutcome ({ outcome, exitCode, reason, errors, resources, durationMs }: ShutdownReport): void {
    const hasCrashed = calls.some(({ kind }) => kind === 'error')
    const isBad = scenario.surelyFails || hasCrashed || cuts.all > 0 || resources.some(result => result.outcome !== 'closed')
    if (isBad) note(outcome !== 'clean', 'the outcome is clean, although something has failed')
    const messages = errors.map(({ message }) => message).join(', ')
    if (scenario.isClean) note(outcome === 'clean', `the outcome is ${outcome}, although nothing has failed: ${messages}`)
    note(exitCode === (outcome === 'failed' || cuts.atWork > 0 ? 1 : 0), `the exit code is ${exitCode} at outcome ${outcome}`)
    note(outcome !== 'failed' || errors.length > 0, 'the outcome is failed, and there is no error')
    if (scenario.boot === 'early') note(reason.kind === calls[0]!.kind, `the reason is ${reason.kind}`)
    if (!scenario.trafficFails && !isFault(scenario.drain.behaviour) && scenario.boot === 'early') {
      const longest = delay.max + timeouts.total + 100
      note(durationMs <= longest, `it takes ${durationMs} ms, more than ${longest} ms`)
    }
  }

  function checkPhases ({ phases: results, reason }: ShutdownReport): void {
    const names = results.map(({ phase }) => phase)
    note(names.join() === seen.join() && names.at(-1) === 'shutdown', `the phases are ${names.join()}, not ${seen.join()}`)
    for (const [index, { startedMs, durationMs }] of results.entries()) {
      const next = results[index + 1]
      note(durationMs >= 0, 'a phase has no duration')
      if (next !== undefined) note(Math.abs(startedMs + durationMs - next.startedMs) < 0.01, 'a phase does not follow the one before')
    }
    if (cuts.byDrain > 0) {
      note(results.find(({ phase }) => phase === 'draining')!.outcome !== 'clean', 'draining is clean, although requests were cut')
    }
    const hasLameDuck = names.includes('lame-duck')
    const mayWait = reason.kind !== 'close' && delay.max > 0 && scenario.boot === 'early'
    const isQuiet = delay.min === 0 && begun!.silence >= delay.quiet
    note(hasLameDuck === (mayWait && !isQuiet), `lame-duck: ${hasLameDuck}, silent for ${begun!.silence} ms`)
    note(hasLameDuck === (lameDuckMs !== null), 'the timeouts are not fitted to the length of lame-duck')
    const refuses = newConnections === 'refuse' || (newConnections === 'auto' && hasLameDuck)
    note((stoppedListeningIn !== 'draining') === refuses, `the server stops listening in ${stoppedListeningIn}`)
    const expected = [...hasLameDuck ? ['enterLameDuck'] : [], 'beginDraining', 'drain']
    note(drainCalls.join() === expected.join(), `the drain is called: ${drainCalls.join()}`)
    for (const { name, added, pause } of scenario.resources) {
      if (pause === null || added === 'late') continue
      const phase = hasLameDuck ? 'lame-duck' : 'draining'
      note(pauses.get(name)?.phase === phase, `${name} pauses in ${pauses.get(name)?.phase}, not in ${phase}`)
    }
  }

  function checkResources ({ resources: results }: ShutdownReport): void {
    const byName = new Map(results.map(result => [result.name, result]))
    note(byName.size === results.length, 'a resource has two results in the report')
    for (const plan of scenario.resources) {
      const { name, added, close, force, timeout } = plan
      const isExpected = !removed.has(name) && (added !== 'late' || late.has(name))
      const result = byName.get(name)
      note(closed.has(name) === isExpected, `${name} was ${isExpected ? 'not ' : ''}closed`)
      note((result !== undefined) === isExpected, `${name} is ${isExpected ? 'not ' : ''}in the report`)
      if (result === undefined) continue
      const { outcome, durationMs } = result
      if (outcome === 'closed') note(!isFault(close) && Math.abs(durationMs - close.ms) <= 1, `${name} is closed after ${durationMs} ms`)
      if (outcome === 'failed') note(close.kind === 'rejects' || close.kind === 'throws', `${name} has failed`)
      if (outcome === 'forced') note(force !== null && !isFault(force), `${name} is forced`)
      note((outcome === 'closed') === (result.error === null), `${name} is ${outcome}, and has the wrong error`)
      if (isStuck(close) || outcome === 'forced' || outcome === 'abandoned') {
        const { remaining } = closed.get(name)!
        const own = timeout ?? timeouts.resources
        const granted = Math.min(own, remaining - Math.min(1_000, own / 10))
        note(outcome === 'forced' || outcome === 'abandoned', `${name} is stuck, and ${outcome}`)
        note(durationMs >= granted - 1, `${name} is ${outcome} after ${durationMs} ms, before its time of ${granted} ms`)
        note(durationMs <= Math.max(0, granted) + Math.min(1_000, own / 10) + 4, `${name} is ${outcome} after ${durationMs} ms, behind its time`)
      }
    }
    // One that is added at the end has little time.
    const allClosed = results.every(({ name, outcome }) => outcome === 'closed' || late.get(name) === true)
    if (scenario.resourcesAreQuick && scenario.boot !== 'never') note(allClosed, `a resource did not get its reserve of ${reserve} ms`)
  }

  function checkHooks ({ hooks: results }: ShutdownReport): void {
    if (!scenario.onlyHooksFail || scenario.hooks.some(({ plugin }) => plugin === 'earlier')) return
    const expected = { stuck: hooks.filter(({ behaviour }) => isStuck(behaviour)).length, failed: hooks.filter(({ behaviour: { kind } }) => kind === 'rejects' || kind === 'throws').length }
    if (expected.stuck * timeouts.resources > timeouts.total * 7 / 16) return // The total may be over before the last hook.
    note(results.length === hooks.length, `${results.length} of ${hooks.length} hooks are in the report`)
    note(results.filter(({ outcome }) => outcome === 'abandoned').length >= expected.stuck, `not all of ${expected.stuck} stuck hooks were abandoned`)
    if (expected.stuck === 0) note(results.filter(({ outcome }) => outcome === 'failed').length === expected.failed, 'the hooks that failed are not in the report')
  }

  /** Each request that was in flight or has arrived since has one end in the report. */
  function checkCounts ({ requests, streams, inFlight }: ShutdownReport): void {
    const { stats, size } = begun!
    const { completed, rejected, aborted, cut, received } = server.stats
    if (!scenario.traffic.begin) {
      note(requests.completed === completed - stats.completed, 'wrong count of completed requests')
      note(requests.rejected === rejected - stats.rejected, 'wrong count of rejected requests')
      note(requests.aborted === aborted - stats.aborted, 'wrong count of aborted requests')
      const all = requests.completed + requests.rejected + requests.aborted + requests.cut.length + streams.cut
      note(all === size + received - stats.received, `${all} of ${size + received - stats.received} requests have an end`)
    }
    note(requests.cut.length + streams.cut === cut, 'wrong count of cut requests')
    note(streams.ended >= 0, 'a negative count of streams')
    note(inFlight.length > 0 && inFlight.length <= 200, `${inFlight.length} samples`)
    for (const [index, { atMs }] of inFlight.entries()) note(index === 0 || atMs >= inFlight[index - 1]!.atMs, 'the samples are out of order')
  }
}
