/**
 * One whole shutdown in virtual time, from one seed: the lifecycle, the resources, the hooks and the tasks are real; the
 * traffic and Fastify are simulated. Each part may fail, and the invariants are checked while it runs.
 */
import { Clock } from 'clock-mock'
import type { FastifyInstance } from 'fastify'
import type { Drain } from '../../lib/http/drains/drain'
import { createEvents } from '../../lib/lifecycle/events'
import { createLifecycle, phases } from '../../lib/lifecycle/phases'
import { createProblems } from '../../lib/lifecycle/problems'
import { noCounts } from '../../lib/lifecycle/report'
import { createShutdown } from '../../lib/lifecycle/shutdown'
import type { ShutdownParts } from '../../lib/lifecycle/shutdown-parts'
import { createTasks } from '../../lib/lifecycle/tasks'
import { toError } from '../../lib/errors'
import { fixedDelay, reserveOf } from '../../lib/times'
import { createResources } from '../../lib/resources/resources'
import { once } from '../../lib/util/deferred'
import type { CutRequest, Outcome, Phase, Resource, ShutdownReport } from '../../types/index'
import { behave, isFault, run, type Behaviour } from './behaviour'
import { createRandom, type Random } from './random'

/** A rule that a shutdown has broken. */
export class Broken extends Error {}

const immediate = setImmediate
const settle = (): Promise<void> => new Promise(resolve => { immediate(resolve) })

/** Time after `delay` and the total at which the shutdown must be over, in milliseconds: the backstop and its timers. */
const slack = 2_100

/** Plays the shutdown of a seed. @throws Broken */
export async function simulate (seed: number): Promise<ShutdownReport> {
  const clock = new Clock()
  const exit = clock.enter()
  try {
    return await play(createRandom(seed), clock)
  } finally {
    exit()
    // The clock does not restore it, and each clock would hold the one before in memory.
    globalThis.setImmediate = immediate
  }
}

async function play (random: Random, clock: Clock): Promise<ShutdownReport> {
  const scenario = createScenario(random)
  const { settings, faulty } = scenario
  const check = (holds: boolean, rule: string): void => { if (!holds) throw new Broken(`${rule}\n${JSON.stringify(scenario, null, 1)}`) }
  const broken: Error[] = []
  /** Checks a rule where a throw would be contained. */
  const note = (holds: boolean, rule: string): void => { if (!holds) broken.push(new Broken(`${rule}\n${JSON.stringify(scenario, null, 1)}`)) }

  const problems = createProblems()
  const events = createEvents(error => problems.record('A listener threw', error))
  const onProblem = (message: string, error: unknown): void => { problems.record(message, error) }
  const lifecycle = createLifecycle(error => onProblem('A phase listener threw', error))
  lifecycle.boot()
  const tasks = createTasks(lifecycle, ({ name, outcome }, error) => { if (error !== null && outcome !== 'cancelled') problems.record(`Task '${name}' ${outcome}`, error) })

  // Requests: each is over at a time, or is cut.
  const began = clock.now()
  const inFlight = new Map<number, number>()
  for (const [id, { at, ms }] of scenario.requests.entries()) {
    const begin = (): void => {
      if (lifecycle.hasReached('draining')) return // It gets the 503.
      inFlight.set(id, clock.now() + ms)
      setTimeout(() => inFlight.delete(id), ms)
    }
    if (at <= 0) begin()
    else setTimeout(begin, at)
  }
  const cut: CutRequest[] = []
  const requests: Drain = {
    name: 'requests',
    timeout: settings.timeouts.requests,
    beginDraining () {},
    async drain (ms) {
      const deadline = clock.now() + ms
      for (const end of [...inFlight.values()]) if (end <= deadline && end > clock.now()) await new Promise<void>(resolve => { setTimeout(resolve, end - clock.now()) })
      await new Promise<void>(resolve => { setTimeout(resolve, 0) })
      if (inFlight.size === 0) return 'clean'
      const left = deadline - clock.now()
      if (left > 0) await new Promise<void>(resolve => { setTimeout(resolve, left) })
      for (const id of inFlight.keys()) cut.push({ method: 'GET', route: `/${id}`, ageMs: null, category: null, waitsFor: 'app' })
      inFlight.clear()
      return cut.length === 0 ? 'clean' : 'forced'
    },
    pending: () => [...inFlight.keys()].map(id => `GET /${id}`)
  }
  const other: Drain = {
    name: 'other',
    timeout: settings.timeouts.streams,
    enterLameDuck () { if (scenario.drain.enterLameDuckThrows) throw new Error('enterLameDuck') },
    beginDraining () { if (scenario.drain.beginDrainingThrows) throw new Error('beginDraining') },
    async drain (): Promise<Outcome> {
      await run(scenario.drain.behaviour, 'other drain')
      return 'clean'
    },
    pending () {
      if (scenario.drain.pendingThrows) throw new Error('pending')
      return []
    }
  }

  // Resources: none closes before its dependants, or under a request.
  const settled = new Set<string>()
  const closed = new Map<string, number>()
  const paused = new Map<string, 'pausing' | 'over'>()
  const resourceOptions: Record<string, Resource> = {}
  for (const { name, dependsOn, close, force, pause, timeout, last } of scenario.resources) {
    resourceOptions[name] = {
      dependsOn,
      ...timeout === null ? {} : { timeout },
      ...last ? { last } : {},
      ...pause === null
        ? {}
        : {
            async pause () {
              note(!paused.has(name), `${name} pauses twice`)
              paused.set(name, 'pausing')
              await run(pause, `pause of ${name}`)
              paused.set(name, 'over')
            }
          },
      ...force === null ? {} : { force: () => run(force, `force of ${name}`) },
      close () {
        closed.set(name, (closed.get(name) ?? 0) + 1)
        for (const each of scenario.resources) {
          if (each.dependsOn.includes(name)) note(settled.has(each.name), `${name} closes under its dependant ${each.name}`)
          if (last && !each.closesLast) note(settled.has(each.name), `${name} is last, and closes before ${each.name}`)
        }
        if (pause !== null) note(paused.has(name), `${name} closes, and was not paused`)
        if (pause !== null && scenario.pausesAreQuick && !isFault(pause)) note(paused.get(name) === 'over', `${name} closes while it pauses`)
        note(tasks.active === 0, `${name} closes under a task`)
        note(lifecycle.phase === 'cleaning', `${name} closes in phase ${lifecycle.phase}`)
        note(inFlight.size === 0 || scenario.traffic.faults > 0, `${name} closes under a request`)
        return run(close, name)
      }
    }
  }

  const app = createApp()
  const resources = createResources(app as unknown as FastifyInstance, {
    settings: { ...settings, resources: resourceOptions, track: 'count' },
    lifecycle,
    drain: () => shutdown.drain(),
    finish: () => shutdown.finish(),
    runInside: part => part(),
    onResource: result => {
      note(!settled.has(result.name), `${result.name} has two results`)
      settled.add(result.name)
      events.emit({ type: 'resource', result })
    },
    onHook: result => { events.emit({ type: 'hook', result }) },
    onLastResources: () => {},
    wrapHook: (_name, hook) => hook,
    onProblem
  })
  for (const { kind, behaviour } of scenario.hooks) app.addHook(kind, async () => { await run(behaviour, `${kind} hook`) })
  resources.seal()

  const close = once(async () => {
    await shutdown.drain()
    await app.runHooks('preClose')
    if (scenario.serverClose !== null) await run(scenario.serverClose, 'server.close')
    await app.runHooks('onClose')
  })
  const exits: (0 | 1 | null)[] = []
  const parts: ShutdownParts = {
    lifecycle,
    settings: { ...settings, newConnections: 'auto', signals: ['SIGTERM'], uncaughtErrors: true, exit: true, refitTimeouts () {}, onReport: scenario.onReport === null ? undefined : () => run(scenario.onReport!, 'onReport') },
    state: { get activeRequests () { return inFlight.size }, activeStreams: 0, activeWebSockets: 0 },
    events,
    tasks,
    traffic: {
      lastRequest: {
        note () {},
        forget () {},
        silence: () => clock.now() - began - scenario.requests.reduce((latest, { at }) => at <= clock.now() - began ? Math.max(latest, at) : latest, -Infinity),
        async untilQuiet (quiet, max) {
          for (const until = clock.now() + max; ; await new Promise<void>(resolve => { setTimeout(resolve, 10) })) {
            if (parts.traffic.lastRequest.silence() >= quiet) return true
            if (clock.now() >= until) return false
          }
        }
      },
      drains: [requests, other],
      listening: true,
      begin () { maybeThrow(scenario.traffic.begin) },
      async stopListening () { await run(scenario.traffic.stopListening, 'stopListening') },
      async waitForFirstBytes () { await run(scenario.traffic.waitForFirstBytes, 'waitForFirstBytes') },
      failListen () {},
      beginDraining () { maybeThrow(scenario.traffic.beginDraining) },
      async end (ms) {
        await run(scenario.traffic.end, 'end')
        for (const id of inFlight.keys()) cut.push({ method: 'GET', route: `/${id}`, ageMs: null, category: null, waitsFor: 'app' })
        inFlight.clear()
        return ms >= 0 ? 'clean' : 'forced'
      },
      destroyAll () {},
      counts: () => ({ ...noCounts, requests: { ...noCounts.requests, cut }, cutAtWork: cut.length })
    },
    resources,
    problems,
    flushLog: async () => {},
    close: { original: close, intercept () {}, runInside: part => part(), settle () {} },
    joinProcess: () => ({ leave (code) { exits.push(code) }, meetOthers: () => ({ notes: [], warnings: [] }) }),
    async flush () { await run(scenario.flush, 'flush') },
    onForcedExit () {},
    onProblem
  }
  const shutdown = createShutdown(parts)
  for (const { behaviour, stops } of scenario.tasks) {
    void tasks.run('task', async signal => {
      if (stops) await new Promise<void>((_resolve, reject) => { signal.addEventListener('abort', () => reject(toError(signal.reason))) })
      await run(behaviour, 'task')
    }).catch(() => {})
  }

  const seen: Phase[] = []
  let reports = 0
  events.listen(event => {
    if (event.type === 'phase') {
      note(phases.indexOf(event.phase) > phases.indexOf(seen.at(-1) ?? 'running'), `phase ${event.phase} after ${seen.at(-1)}`)
      seen.push(event.phase)
    }
    if (event.type === 'report') reports++
    if (event.type === scenario.listenerThrowsAt) throw new Error('listener')
  })

  const budget = settings.delay.max + settings.timeouts.total + slack
  for (const caller of scenario.callers) {
    if (caller === 'start') void shutdown.start({ kind: 'signal', detail: 'SIGTERM' })
    else void close().catch(() => {})
  }
  const first = shutdown.start({ kind: 'start', detail: 'check' })
  const ended = { report: null as ShutdownReport | null }
  void first.then(report => { ended.report = report })
  const checkNotes = (): void => {
    const [rule] = broken
    if (rule !== undefined) throw rule
  }
  await settle()
  while (ended.report === null) {
    checkNotes()
    const due = Math.min(...[...clock.timers].filter(([, timers]) => timers.length > 0).map(([time]) => time))
    check(Number.isFinite(due) && due - began <= budget, `it is not over ${budget} ms after its beginning`)
    clock.advance(Math.max(0, due - clock.now()))
    await settle()
  }
  checkNotes()
  const { report } = ended
  const { outcome, exitCode, resources: results, hooks, errors } = report

  check(reports === 1, `${reports} reports`)
  check(exits.length === 1, `${exits.length} exits`)
  check(exits[0] === 1 || (exitCode === 0 && outcome !== 'failed'), 'the exit code is better than the report')
  for (const { name } of scenario.resources) {
    check(closed.get(name) === 1, `${name} was closed ${closed.get(name) ?? 0} times`)
    check(results.some(result => result.name === name), `${name} is not in the report`)
  }
  // Otherwise, the total may be over before the last hook.
  if (scenario.onlyHooksFail) {
    check(hooks.length === scenario.hooks.length, `${hooks.length} of ${scenario.hooks.length} hooks are in the report`)
    const stuck = scenario.hooks.filter(({ behaviour: { kind } }) => kind === 'never' || kind === 'late').length
    check(hooks.filter(hook => hook.outcome === 'abandoned').length >= stuck, `not all of ${stuck} stuck hooks were abandoned`)
  }
  const isBad = faulty || cut.length > 0 || results.some(result => result.outcome !== 'closed')
  if (isBad) check(outcome !== 'clean', 'the outcome is clean, although something has failed')
  else if (scenario.isQuick) check(outcome === 'clean' && exitCode === 0, `the outcome is ${outcome}, although nothing has failed: ${errors.map(({ message }) => message).join(', ')}`)
  if (scenario.isQuick && !faulty) check(results.every(result => result.outcome === 'closed'), 'a resource did not get its time')
  if (scenario.resourcesAreQuick) check(results.every(result => result.outcome === 'closed'), `a resource did not get its reserve of ${reserveOf(settings.timeouts)} ms`)
  return report
}

function maybeThrow (throws: boolean): void {
  if (throws) throw new Error('it throws')
}

/** Fastify's hooks: preClose in their order, onClose in the opposite one. Each runs, and the first error is thrown last. */
function createApp (): { addHook (name: string, hook: (instance: unknown) => unknown): unknown, runHooks (name: string): Promise<void> } {
  const hooks: { name: string, hook: (instance: unknown) => unknown }[] = []
  const app = {
    pluginName: 'fastify',
    printPlugins: () => '',
    hasPlugin: () => false,
    log: {},
    addHook (name: string, hook: (instance: unknown) => unknown) {
      hooks.push({ name, hook })
      return app
    },
    async runHooks (name: string) {
      const own = hooks.filter(each => each.name === name)
      let failed: { error: unknown } | null = null
      for (const { hook } of name === 'onClose' ? own.reverse() : own) {
        try {
          await hook(app)
        } catch (error) {
          failed ??= { error }
        }
      }
      if (failed !== null) throw failed.error
    }
  }
  return app
}

/** Chooses what happens. */
function createScenario (random: Random) {
  const withFaults = random.chance(0.7)
  const rate = withFaults ? random.pick([0.05, 0.2, 0.6]) : 0
  const total = random.between(200, 5_000)
  const share = (): number => random.between(1, total)
  const timeouts = { requests: share(), streams: share(), tasks: share(), resources: random.between(50, total), total }
  const delay = random.pick([fixedDelay(0), fixedDelay(random.between(1, 500)), { min: 0, max: random.between(1, 800), quiet: random.between(1, 300) }, { min: 100, max: 600, quiet: 100 }])
  const reserve = reserveOf(timeouts)
  const names = Array.from({ length: random.between(0, 7) }, (_, index) => `r${index}`)
  // Short enough that a chain of all of them fits into a part of the reserve.
  const quick = Math.floor(Math.min(reserve / 4, timeouts.resources / 2) / (names.length + 4))
  const isQuick = random.chance(0.5)
  const longest = isQuick ? quick : total
  const few = { kind: 'works at once', ms: 0 } as Behaviour
  const maybe = (probability: number): boolean => withFaults && random.chance(probability)
  const hasSlowRequests = random.chance(0.3)
  const slow = hasSlowRequests ? 2 * total : Math.floor(timeouts.requests / 4)
  const dependsOn = new Map<string, string[]>()
  const resources = names.map((name, index) => {
    const own = names.slice(0, index).filter(() => random.chance(0.3))
    dependsOn.set(name, own)
    return {
      name,
      dependsOn: own,
      close: behave(random, rate, longest),
      force: random.chance(0.5) ? behave(random, rate, longest) : null,
      pause: random.chance(0.3) ? behave(random, rate, longest) : null,
      timeout: random.chance(0.2) && !isQuick ? random.between(1, total) : null,
      last: random.chance(0.1),
      closesLast: false
    }
  })
  const reach = (name: string): string[] => (dependsOn.get(name) ?? []).flatMap(each => [each, ...reach(each)])
  // What a `last` resource depends on closes after it.
  const lastOnes = new Set(resources.filter(({ last }) => last).flatMap(({ name }) => [name, ...reach(name)]))
  for (const each of resources) each.closesLast = lastOnes.has(each.name)
  const hooks = Array.from({ length: random.between(0, 3) }, () => ({ kind: random.pick(['preClose', 'onClose'] as const), behaviour: behave(random, rate, longest) }))
  const requests = Array.from({ length: random.between(0, 6) }, () => ({ at: random.between(-500, 700), ms: random.between(1, slow) }))
  const tasks = Array.from({ length: random.between(0, 3) }, () => ({ behaviour: behave(random, rate, Math.floor(isQuick ? timeouts.tasks / 8 : total)), stops: random.chance(0.3) }))
  const traffic = {
    begin: maybe(0.05),
    beginDraining: maybe(0.05),
    stopListening: maybe(0.1) ? behave(random, 0.5, 10) : few,
    waitForFirstBytes: maybe(0.1) ? behave(random, 0.5, 10) : few,
    end: maybe(0.1) ? behave(random, 0.5, 10) : few,
    faults: 0
  }
  traffic.faults = Number(traffic.begin) + Number(traffic.beginDraining) + [traffic.stopListening, traffic.waitForFirstBytes, traffic.end].filter(isFault).length
  const drain = { enterLameDuckThrows: maybe(0.05), beginDrainingThrows: maybe(0.05), pendingThrows: maybe(0.05), behaviour: maybe(0.2) ? behave(random, 0.5, 10) : few }
  const onReport = maybe(0.2) ? behave(random, 0.5, 10) : null
  const flush = maybe(0.1) ? behave(random, 0.5, 10) : few
  const serverClose = maybe(0.1) ? behave(random, 0.7, 10) : null
  const listenerThrowsAt = maybe(0.1) ? random.pick(['phase', 'resource', 'hook'] as const) : null
  const callers = random.pick([['start'], ['start', 'start'], ['close'], ['start', 'close'], ['close', 'start']] as ('start' | 'close')[][])

  // Some faults do not happen: a drain that is not called, or a `force` that is not needed.
  const closes = resources.map(({ close }) => close)
  const faulty = [...closes, ...hooks.map(({ behaviour }) => behaviour)].some(isFault) || traffic.beginDraining || traffic.begin ||
    drain.beginDrainingThrows || isFault(drain.behaviour) || isFault(traffic.end) || tasks.some(({ behaviour, stops }) => !stops && isFault(behaviour) && behaviour.kind !== 'throws' && behaviour.kind !== 'rejects')
  const anyFault = withFaults && (faulty || traffic.faults > 0 || drain.enterLameDuckThrows || drain.pendingThrows || onReport !== null || isFault(flush) || serverClose !== null || listenerThrowsAt !== null ||
    resources.some(({ pause }) => pause !== null && isFault(pause)) || tasks.some(({ behaviour }) => isFault(behaviour)))
  return {
    settings: { delay, timeouts },
    resources,
    hooks,
    requests,
    tasks,
    traffic,
    drain,
    onReport,
    flush,
    serverClose,
    listenerThrowsAt,
    callers,
    faulty,
    isQuick: isQuick && !hasSlowRequests && !anyFault,
    onlyHooksFail: isQuick && !hasSlowRequests && traffic.faults === 0 && serverClose === null && !isFault(drain.behaviour) &&
      ![...closes, ...resources.flatMap(({ pause }) => pause ?? []), ...tasks.map(({ behaviour }) => behaviour)].some(isFault),
    pausesAreQuick: isQuick && !hasSlowRequests,
    /** Whether every resource fits into the reserve, whatever else fails. */
    resourcesAreQuick: isQuick && !closes.some(isFault) && !resources.some(({ pause }) => pause !== null && isFault(pause))
  }
}
