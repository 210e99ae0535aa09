/**
 * One whole shutdown in virtual time, from one seed. Real are the lifecycle, the tasks, the resources and the hooks, the
 * drain of the requests, the close of the app, and the signals and the exit of the process. Simulated are the clients,
 * Fastify's hooks, the process and the clock. Each part may fail, and the rules are checked while it runs.
 */
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { createBase } from '../../lib/core'
import { toError } from '../../lib/errors'
import type { Drain } from '../../lib/http/drains/drain'
import { createAppClose } from '../../lib/lifecycle/app-close'
import { noCounts } from '../../lib/lifecycle/report'
import { createShutdown } from '../../lib/lifecycle/shutdown'
import type { ShutdownParts } from '../../lib/lifecycle/shutdown-parts'
import { joinProcess } from '../../lib/process/signals'
import { interceptCloseHooks } from '../../lib/resources/close-hooks'
import { createResources, type HostHooks } from '../../lib/resources/resources'
import { sleep } from '../../lib/util/time'
import type { Outcome, Resource, ShutdownReport } from '../../types/index'
import { createApp } from './app'
import { callBack, run } from './behaviour'
import { createClock, followStorages, type VirtualClock } from './clock'
import { createProcess, type SimulatedProcess } from './process'
import { createRandom, type Random } from './random'
import { createRules } from './rules'
import { createScenario, type Call, type HookPlan, type ResourcePlan } from './scenario'
import { createServer } from './server'

/** Plays the shutdown of a seed. @throws Broken if a rule is broken */
export async function simulate (seed: number): Promise<ShutdownReport> {
  const random = createRandom(seed)
  const clock = createClock(random)
  const simulatedProcess = createProcess(clock.now)
  const exits = [clock.enter(), simulatedProcess.enter(), followStorages()]
  try {
    return await play(random, clock, simulatedProcess)
  } finally {
    for (const exit of exits.reverse()) exit()
  }
}

async function play (random: Random, clock: VirtualClock, simulatedProcess: SimulatedProcess): Promise<ShutdownReport> {
  const scenario = createScenario(random)
  const { settings } = scenario
  const { problems, events, lifecycle, tasks, onProblem } = createBase()
  const timeouts = { ...settings.timeouts }
  const httpSettings = {
    timeouts,
    givenTimeouts: new Set(settings.givenTimeouts),
    categories: new Map([['reports', settings.categoryTime]])
  }
  const server = createServer({
    settings: httpSettings,
    lifecycle,
    events,
    tasks,
    onCut: (plan, isByDrain) => rules.onCut(plan, isByDrain),
    onComplete: plan => rules.onComplete(plan),
    startTask () { void tasks.run('of a handler', () => sleep(Math.min(5, Math.floor(timeouts.tasks / 16)))) }
  })
  const rules = createRules({ scenario, clock, lifecycle, events, tasks, server, problems, simulatedProcess })
  const onUnhandled = (error: unknown): void => rules.note(false, `unhandled rejection: ${String(error)}`)
  const realProcess = Object.getPrototypeOf(process) as NodeJS.Process
  realProcess.on('unhandledRejection', onUnhandled)

  const app = createApp(scenario.serverClose === null ? async () => {} : async () => { await run(scenario.serverClose!, 'server.close') })
  for (const hook of scenario.hooks.filter(({ plugin }) => plugin === 'earlier')) addHook(hook)
  const close = createAppClose(app as unknown as FastifyInstance)
  const interceptHooks: HostHooks = options => interceptCloseHooks(app as unknown as FastifyInstance, (_name, hook) => hook, options)
  const resources = createResources(interceptHooks, {
    settings: {
      resources: Object.fromEntries(
        scenario.resources.filter(({ added }) => added === 'option').map(plan => [plan.name, createResource(plan)])
      ),
      timeouts,
      track: 'count'
    },
    lifecycle,
    log: {} as FastifyBaseLogger,
    drain: () => shutdown.drain(),
    finish: () => shutdown.finish(),
    runInside: close.runInside,
    onResource: result => { events.emit({ type: 'resource', result }) },
    onHook: result => { events.emit({ type: 'hook', result }) },
    onLastResources: (names, atMs) => { events.emit({ type: 'last-resources', names, atMs }) },
    onProblem
  })

  const other: Drain = {
    name: 'other',
    timeout: timeouts.streams,
    enterLameDuck () {
      rules.onDrain('enterLameDuck')
      if (scenario.drain.enterLameDuckThrows) throw new Error('enterLameDuck')
    },
    beginDraining () {
      rules.onDrain('beginDraining')
      if (scenario.drain.beginDrainingThrows) throw new Error('beginDraining')
    },
    async drain (ms): Promise<Outcome> {
      rules.onDrain('drain', ms)
      await run(scenario.drain.behaviour, 'other drain')
      return 'clean'
    },
    pending () {
      if (scenario.drain.pendingThrows) throw new Error('pending')
      return []
    }
  }
  const { traffic } = scenario
  const parts: ShutdownParts = {
    lifecycle,
    settings: {
      delay: settings.delay,
      timeouts,
      newConnections: settings.newConnections,
      signals: ['SIGTERM'],
      uncaughtErrors: true,
      exit: settings.exit,
      refitTimeouts: rules.onLameDuckEnd,
      onReport: scenario.onReport === null ? undefined : () => run(scenario.onReport!, 'onReport') as Promise<void>
    },
    state: {
      get activeRequests () { return server.active.requests },
      get activeStreams () { return server.active.streams },
      activeWebSockets: 0
    },
    events,
    tasks,
    traffic: {
      lastRequest: server.lastRequest,
      drains: [server.requests, other],
      get listening () { return server.listening },
      begin () {
        rules.onBegin()
        maybeThrow(traffic.begin)
        server.begin()
      },
      async stopListening () {
        rules.onStopListening()
        server.stopListening()
        await run(traffic.stopListening, 'stopListening')
      },
      async waitForFirstBytes () { await run(traffic.waitForFirstBytes, 'waitForFirstBytes') },
      failListen () {},
      beginDraining () {
        server.beginDraining()
        maybeThrow(traffic.beginDraining)
      },
      async end (ms) {
        await run(traffic.end, 'end')
        return await server.end(ms)
      },
      destroyAll: server.destroyAll,
      counts: () => ({ ...noCounts, ...server.counts() })
    },
    resources,
    problems,
    flushLog: () => sleep(scenario.flushLog),
    close,
    joinProcess,
    async flush () { await run(scenario.flush, 'flush') },
    onForcedExit: rules.onForcedExit,
    onProblem
  }
  const shutdown = createShutdown(parts)
  close.intercept()
  if (scenario.phaseListenerThrows) lifecycle.on('draining', () => { throw new Error('phase listener') })
  loadPlugins()
  if (scenario.owner !== null) addOwner()
  setTimeout(boot, scenario.boot === 'early' ? 1 : scenario.bootAt)
  server.play(scenario.requests, scenario.connections)
  for (const { at, behaviour, stops } of scenario.tasks) {
    setTimeout(() => {
      // Its promise is not handled: a task that fails, or comes too late, is no unhandled rejection.
      void tasks.run('task', async signal => {
        if (stops) await untilAborted(signal)
        await run(behaviour, 'task')
      })
    }, at)
  }
  let report: ShutdownReport | null = null
  for (const { at, kind } of scenario.calls) setTimeout(() => { if (report === null) call(kind) }, at)
  events.listen(event => { if (event.type === 'report') report = event.report })

  try {
    await rules.untilEnd()
    return rules.checkEnd()
  } catch (error) {
    // The next simulation must not begin with what this one has left.
    while (await clock.next(clock.now() + 20_000) && clock.now() < 60_000);
    throw error
  } finally {
    realProcess.removeListener('unhandledRejection', onUnhandled)
  }

  function addHook (plan: HookPlan): void {
    const { id, kind, plugin, behaviour, withCallback, ownsApp } = plan
    if (!withCallback || plugin === 'earlier') {
      app.addHook(kind, async () => {
        rules.onHook(plan)
        if (ownsApp && plugin !== 'earlier') await app.close()
        await run(behaviour, id)
      })
      return
    }
    const call = (done: (error?: Error) => void): void => {
      rules.onHook(plan)
      callBack(behaviour, id, done)
    }
    // Fastify gives an onClose hook the instance and the callback, and a preClose hook only the callback.
    app.addHook(kind, kind === 'onClose'
      ? (_instance: unknown, done: unknown) => call(done as () => void)
      : (done: unknown) => call(done as () => void))
  }

  function createResource (plan: ResourcePlan): Resource {
    const { name, dependsOn, close, force, pause, timeout, last, ownsApp } = plan
    return {
      dependsOn,
      ...timeout === null ? {} : { timeout },
      ...last ? { last } : {},
      ...pause === null
        ? {}
        : {
            async pause () {
              rules.onPause(plan)
              await run(pause, `pause of ${name}`)
              rules.onPauseEnd(plan)
            }
          },
      ...force === null
        ? {}
        : {
            force () {
              rules.onForce(plan)
              return run(force, `force of ${name}`) as Promise<void>
            }
          },
      close (signal) {
        rules.onClose(plan, signal)
        const work = (): Promise<void> => run(close, name) as Promise<void>
        return ownsApp ? app.close().then(work) : work()
      }
    }
  }

  /** Plugins add their hooks and resources in turn. */
  function loadPlugins (): void {
    for (const name of ['p0', 'p1', 'p2']) app.load(name, () => {})
    const hooks = scenario.hooks.filter(({ plugin }) => plugin !== 'earlier')
    for (let index = 0; index < Math.max(hooks.length, scenario.resources.length); index++) {
      const hook = hooks[index]
      if (hook?.plugin === 'app') addHook(hook)
      else if (hook !== undefined) app.load(hook.plugin, () => addHook(hook))
      const plan = scenario.resources[index]
      if (plan?.added === 'plugin') resources.add(plan.name, createResource(plan))
    }
    for (const plan of scenario.resources) if (plan.added === 'late') setTimeout(() => addLate(plan), plan.addedAt)
  }

  function addLate (plan: ResourcePlan): void {
    try {
      const remove = resources.add(plan.name, createResource(plan))
      rules.onAdd(plan)
      if (plan.removedAt === null) return
      setTimeout(() => {
        remove()
        rules.onRemove(plan)
      }, plan.removedAt - plan.addedAt)
    } catch (error) {
      const isLate = lifecycle.phase === 'shutdown' && (error as { code?: string }).code === 'FST_ERR_SHUTDOWN_LATE'
      rules.note(isLate, `${plan.name} could not be added in phase ${lifecycle.phase}: ${String(error)}`)
    }
  }

  /** The boot ends, as Fastify's: the plugin's onReady hook runs, then the server listens. */
  function boot (): void {
    if (scenario.boot === 'never') return
    resources.seal()
    app.onClose(async () => { await shutdown.drain() })
    lifecycle.boot()
    shutdown.meetOthers()
    if (scenario.boot === 'early') server.listen()
    app.ready()
  }

  function addOwner (): void {
    simulatedProcess.addOwner(() => {
      rules.onOwner()
      try {
        callBack(scenario.owner!, 'owner', rules.onOwnerEnd)
      } catch {
        rules.onOwnerEnd() // It would be an uncaught exception.
      }
    })
  }

  function call (kind: Call): void {
    rules.onCall(kind)
    if (kind === 'signal') simulatedProcess.emit('SIGTERM', 'SIGTERM')
    else if (kind === 'error') simulatedProcess.emit('uncaughtException', new Error('crash'))
    else if (kind === 'start') rules.follow('start', shutdown.start({ kind: 'start', detail: 'test' }))
    else rules.follow('close', app.close())
  }
}

async function untilAborted (signal: AbortSignal): Promise<never> {
  return await new Promise((_resolve, reject) => {
    const stop = (): void => reject(toError(signal.reason))
    if (signal.aborted) stop()
    else signal.addEventListener('abort', stop)
  })
}

function maybeThrow (throws: boolean): void {
  if (throws) throw new Error('it throws')
}
