/** Chooses what happens in one simulation: the options, the traffic, the callers, and what each part does. */
import { fixedDelay, reserveOf } from '../../lib/times'
import type { Timeouts } from '../../types/index'
import { behave, isFault, isStuck, nothing, type Behaviour } from './behaviour'
import type { Random } from './random'
import type { ConnectionPlan, RequestPlan } from './server'

/** Time at which the first caller begins the shutdown, in milliseconds. The clients begin earlier. */
export const callTime = 600

/** The pause after which a second signal is deliberate, in milliseconds. */
export const signalPause = 100

export type Call = 'start' | 'close' | 'signal' | 'error'
export type Scenario = ReturnType<typeof createScenario>
export type ResourcePlan = Scenario['resources'][number]
export type HookPlan = Scenario['hooks'][number]

const quickRequest: Omit<RequestPlan, 'at' | 'ms'> = {
  kind: 'request',
  hasBegun: false,
  exempt: false,
  category: null,
  waitsFor: 'app',
  aborts: false,
  endsOnSignal: false,
  startsTask: false
}

/** Chooses what happens. */
export function createScenario (random: Random) {
  const withFaults = random.chance(0.7)
  const rate = withFaults ? random.pick([0.05, 0.2, 0.6]) : 0
  const maybe = (probability: number): boolean => withFaults && random.chance(probability)
  const total = random.between(200, 5_000)
  const share = (): number => random.between(1, total)
  const timeouts = {
    requests: share(), streams: share(), tasks: share(), resources: random.between(50, total), total
  }
  const categoryTime = share()
  const givenTimeouts: (keyof Timeouts)[] = ['total']
  for (const name of ['requests', 'streams', 'tasks', 'resources'] as const) {
    if (random.chance(0.6)) givenTimeouts.push(name)
  }
  const delay = random.pick([
    fixedDelay(0),
    fixedDelay(random.between(1, 500)),
    { min: 0, max: random.between(1, 800), quiet: random.between(1, 300) },
    { min: 100, max: 600, quiet: 100 }
  ])
  const isQuick = random.chance(0.5)
  const hasSlowRequests = random.chance(0.3)
  const resourceCount = random.between(0, 7)
  const hookCount = random.between(0, 4)
  const reserve = reserveOf(timeouts)
  // Short enough that a chain of all of them fits into a part of the reserve.
  const longest = isQuick ? Math.floor(Math.min(reserve / 4, timeouts.resources / 2) / (resourceCount + hookCount + 4)) : total
  const slow = hasSlowRequests ? 2 * total : Math.floor(Math.min(timeouts.requests, timeouts.streams, categoryTime) / 4)
  const plugins = ['p0', 'p1', 'p2']

  const requests = Array.from({ length: random.between(0, 8) }, (): RequestPlan => {
    const exempt = random.chance(0.15)
    return {
      at: random.between(2, 1_600),
      ms: random.between(1, exempt ? Math.floor(total / 20) : slow),
      kind: random.chance(0.3) ? 'stream' : 'request',
      hasBegun: random.chance(0.4),
      exempt,
      category: random.chance(0.2) ? 'reports' : null,
      waitsFor: random.chance(0.8) ? 'app' : 'client',
      aborts: random.chance(0.1),
      endsOnSignal: random.chance(0.1),
      startsTask: random.chance(0.1)
    }
  })
  // Clients that do not stop: lame-duck then takes its longest time.
  if (random.chance(0.1)) {
    for (let at = 300; at < 1_500; at += random.between(20, 90)) {
      requests.push({ ...quickRequest, at, ms: random.between(1, Math.max(1, Math.min(20, slow))) })
    }
  }
  const connections = Array.from({ length: random.between(0, 2) }, (): ConnectionPlan => (
    { at: random.between(2, 1_300), usedAt: random.between(1, 400) }
  ))
  const calls = createCalls(random)
  // A plain `app.close()` waits for the boot, as in Fastify.
  const mayNeverBoot = calls[0]!.kind !== 'close' && maybe(0.3)
  const boot = random.chance(0.8) ? 'early' as const : mayNeverBoot ? 'never' as const : 'late' as const
  const late = new Set<string>()
  const resources = Array.from({ length: resourceCount }, (_, index) => createResource(index))
  markLast()
  const hooks = Array.from({ length: hookCount }, (_, index) => {
    const plugin = random.pick(['earlier', 'app', ...plugins])
    const kind = plugin !== 'earlier' && random.chance(0.4) ? 'preClose' as const : 'onClose' as const
    return { id: `h${index}`, kind, plugin, behaviour: behave(random, rate, longest), withCallback: random.chance(0.3), ownsApp: random.chance(0.1) }
  })
  const tasks = Array.from({ length: random.between(0, 3) }, () => ({
    at: random.chance(0.6) ? 1 : random.between(1, 2_000),
    behaviour: behave(random, rate, Math.floor(isQuick ? timeouts.tasks / 16 : total)),
    stops: random.chance(0.3)
  }))
  const step = (probability: number): Behaviour => maybe(probability) ? behave(random, 0.5, 10) : nothing
  const traffic = {
    begin: maybe(0.05),
    beginDraining: maybe(0.05),
    stopListening: step(0.1),
    waitForFirstBytes: step(0.1),
    end: step(0.1)
  }
  const drain = {
    enterLameDuckThrows: maybe(0.05),
    beginDrainingThrows: maybe(0.05),
    pendingThrows: maybe(0.05),
    behaviour: step(0.2)
  }
  const trafficFails = traffic.begin || traffic.beginDraining ||
    [traffic.stopListening, traffic.waitForFirstBytes, traffic.end].some(isFault)
  const onReport = maybe(0.2) ? behave(random, 0.5, 10) : null
  const flush = step(0.1)
  const flushLog = random.chance(0.3) ? random.between(1, 50) : 0
  const serverClose = maybe(0.1) ? behave(random, 0.7, 10) : null
  const listenerThrowsAt = maybe(0.1) ? random.pick(['phase', 'resource', 'hook', 'report'] as const) : null
  const phaseListenerThrows = maybe(0.05)
  /** Another listener of SIGTERM, and how long it works. */
  const owner = random.chance(0.3) ? behave(random, 0.2, total) : null
  const exit = random.chance(0.8)
  const newConnections = random.pick(['auto', 'auto', 'answer', 'refuse'] as const)

  // Some faults do not happen: a drain that is not called, or a `force` that is not needed.
  const closes = resources.filter(({ added }) => added !== 'late').map(({ close }) => close)
  const pauses = resources.flatMap(({ pause }) => pause ?? [])
  const hasCrash = calls.some(({ kind }) => kind === 'error')
  const surelyFails = closes.some(isFault) || hooks.some(({ behaviour }) => isFault(behaviour)) || traffic.begin ||
    traffic.beginDraining || drain.beginDrainingThrows || isFault(drain.behaviour) || isFault(traffic.end) ||
    tasks.some(({ at, behaviour, stops }) => at < callTime && !stops && isStuck(behaviour)) || boot === 'never'
  const mayFail = surelyFails || hasCrash || trafficFails || drain.enterLameDuckThrows || drain.pendingThrows ||
    onReport !== null || isFault(flush) || serverClose !== null || listenerThrowsAt !== null || phaseListenerThrows ||
    pauses.some(isFault) || tasks.some(({ behaviour }) => isFault(behaviour)) ||
    resources.some(({ close }) => isFault(close))
  const hasTime = isQuick && !hasSlowRequests
  // The time of the tasks begins when the drains are over, and they may begin later.
  const hasLateTasks = requests.some(({ exempt, startsTask }) => exempt && startsTask) ||
    (tasks.some(({ at }) => at > callTime) && (pauses.length > 0 || requests.some(({ exempt }) => exempt)))
  return {
    settings: { delay, timeouts, categoryTime, givenTimeouts, newConnections, exit },
    calls,
    boot,
    bootAt: boot === 'early' ? 1 : random.between(callTime + 1, callTime + Math.min(300, total - 10)),
    resources,
    hooks,
    requests,
    connections,
    tasks,
    traffic,
    trafficFails,
    drain,
    onReport,
    flush,
    flushLog,
    serverClose,
    listenerThrowsAt,
    phaseListenerThrows,
    owner,
    /** Whether the outcome cannot be clean, also without a crash. */
    surelyFails,
    /** Whether nothing fails, and everything has its time. */
    isClean: hasTime && !mayFail && !hasLateTasks,
    onlyHooksFail: hasTime && !trafficFails && serverClose === null && !isFault(drain.behaviour) && boot === 'early' &&
      ![...closes, ...pauses, ...tasks.map(({ behaviour }) => behaviour)].some(isFault),
    hasTime,
    /** Whether every resource fits into the reserve, whatever else fails. */
    resourcesAreQuick: isQuick && !resources.some(({ close, pause }) => isFault(close) || (pause !== null && isFault(pause)))
  }

  function createResource (index: number) {
    const name = `r${index}`
    // Most are options. Some are added by a plugin before the app is ready, and some while it runs or shuts down.
    const added = random.chance(0.7) ? 'option' as const : random.chance(0.6) ? 'plugin' as const : 'late' as const
    const addedAt = added === 'late' ? random.between(2, 2_500) : 0
    const names = Array.from({ length: index }, (_, earlier) => `r${earlier}`)
    if (added === 'late') late.add(name)
    return {
      name,
      added,
      addedAt,
      removedAt: added === 'late' && random.chance(0.2) ? random.between(addedAt, 2_500) : null,
      dependsOn: [
        // A name must be known when the app is ready.
        ...names.filter(each => random.chance(0.3) && !late.has(each)),
        ...random.chance(0.15) ? [random.pick(plugins)] : []
      ],
      close: behave(random, rate, longest),
      force: random.chance(0.5) ? behave(random, rate, longest) : null,
      pause: random.chance(0.3) ? behave(random, rate, longest) : null,
      timeout: random.chance(0.2) && !isQuick ? random.between(1, total) : null,
      last: random.chance(0.1),
      /** Whether it owns the app: its `close` calls `app.close()`. */
      ownsApp: random.chance(0.1),
      /** Whether it is last, or a `last` one uses it. */
      closesLast: false
    }
  }

  /** Finds what closes after all others. */
  function markLast (): void {
    const byName = new Map(resources.map(each => [each.name, each]))
    const mark = (name: string): void => {
      const each = byName.get(name)
      if (each === undefined) return
      each.closesLast = true
      each.dependsOn.forEach(mark)
    }
    for (const { name, last } of resources) if (last) mark(name)
  }
}

function createCalls (random: Random): { readonly at: number, readonly kind: Call }[] {
  const kinds = ['start', 'start', 'close', 'signal', 'signal', 'signal', 'error'] as const
  const calls: { at: number, kind: Call }[] = [{ at: callTime, kind: random.pick(kinds) }]
  const more = random.pick([0, 0, 1, 1, 2, 3])
  for (let left = more; left > 0; left--) {
    // Not at the end of the pause: whether the signal is deliberate is then open.
    const gap = random.pick([0, random.between(0, signalPause - 10), random.between(signalPause + 10, 1_500)])
    calls.push({ at: calls.at(-1)!.at + gap, kind: random.pick(kinds) })
  }
  const signals = calls.filter(({ kind }) => kind === 'signal')
  const isOpen = signals.some(({ at }, index) => index > 0 && Math.abs(at - signals[index - 1]!.at - signalPause) < 10)
  return isOpen ? calls.slice(0, 1) : calls
}
