/**
 * The wiring: options in, parts built, decorators and hooks hung up. Nothing here decides anything; the story is in
 * `coordinator.ts`.
 */
import cluster from 'node:cluster'
import { setMaxListeners } from 'node:events'
import type { FastifyInstance } from 'fastify'
import type { Shutdown, ShutdownOptions } from '../types/index'
import { adaptClient } from './resources/resource'
import { adopt } from './resources/fastify-plugins'
import { checkRoute } from './http/categories'
import { createCoordinator } from './lifecycle/coordinator'
import { createEnding } from './lifecycle/shutdown'
import { ShutdownLateError, ShutdownRegistrationError } from './errors'
import { createEvents } from './lifecycle/events'
import { startExporters } from './exporters/exporter'
import { diagnosticsExporter } from './exporters/diagnostics-channel'
import { flushLog, logExporter } from './exporters/log'
import { createGate } from './http/on-request'
import { takeOverHooks } from './resources/close-hooks'
import { resolveOptions } from './options'
import { createPhaseLine } from './lifecycle/phases'
import { addProbes } from './http/probes'
import { tieCluster } from './process/cluster'
import { detectPlatform, sharesListeners } from './process/platform'
import { tiePm2 } from './process/pm2'
import { tieSystemd } from './process/systemd'
import { createRefusal } from './http/rejection'
import { createRegistry } from './resources/registry'
import { createReport } from './lifecycle/report'
import type { Adapt } from './resources/resource'
import { createState } from './lifecycle/state'
import { endingStream } from './lifecycle/ending-stream'
import { createTasks } from './lifecycle/tasks'
import type { Teardown } from './resources/teardown'
import { createTraffic } from './http/traffic'

export function plugin (app: FastifyInstance, options: ShutdownOptions, done: (error?: Error) => void): void {
  try {
    install(app, options)
  } catch (error) {
    // avvio does not catch what a plugin throws (its lib/plugin.js): an uncaught exception, and `register` would not settle.
    return done(error as Error)
  }
  done()
}

function install (app: FastifyInstance, options: ShutdownOptions): void {
  refuseWrongPlace(app)
  const unseen = warnOfEarlier(app)
  const settings = resolveOptions(options, detectPlatform(process.env, cluster))
  const { timeouts } = settings

  // What happens, and who is told.
  const events = createEvents()
  const onProblem = (message: string, error: unknown): void => events.emit({ type: 'problem', message, error })
  const phase = createPhaseLine(error => onProblem('A phase listener threw', error))
  const abort = new AbortController()
  // Each open stream listens to it: a thousand listeners are no leak.
  setMaxListeners(0, abort.signal)

  // What must come in.
  const tasks = createTasks(abort.signal, (result, error) => events.emit({ type: 'task', result, error }))
  const refusal = createRefusal(settings.retryAfter, () => state, onProblem)
  const traffic = createTraffic(app, { settings, phase, events, refusal, sharedListeners: sharesListeners(process.env, cluster), onProblem })

  // What must close.
  const adapt: Adapt = client => adaptClient(client, { detail: settings.track === 'detail' })
  const registry = createRegistry(settings.resources, adapt)
  let teardown: Teardown | null = null
  let booted = false

  const coordinator = createCoordinator({
    phase,
    events,
    abort,
    tasks,
    timeouts,
    drains: traffic.drains,
    delay: settings.delay,
    listening: () => traffic.servers.listening,
    refusing: hadLameDuck => settings.newConnections === 'refuse' || (settings.newConnections === 'auto' && hadLameDuck),
    stopListening: () => traffic.servers.stopListening(),
    hearLast: traffic.hearLast,
    endConnections: traffic.end,
    hooks: () => hooks.inside(),
    resources () {
      if (!booted) registry.relax()
      return registry.all
    },
    placed: () => registry.placed
  })
  const state = createState({
    phase,
    tasks,
    table: traffic.table,
    signal: abort.signal,
    reason: () => coordinator.reason,
    remaining: coordinator.remaining,
    webSockets: () => traffic.webSockets,
    booted: () => booted
  })
  const endExporters = startExporters([logExporter(app.log), diagnosticsExporter(), ...settings.exporters], { state, listen: events.listen }, onProblem)

  // How it begins and ends.
  const ending = createEnding(app, {
    settings,
    coordinator,
    phase,
    onProblem,
    booted: () => booted,
    refuseListen: traffic.servers.refuseListen,
    publish (story, crashed) {
      const report = createReport(story, { ...traffic.counts(), tasks: tasks.results(), crashed })
      events.emit({ type: 'report', report })
      return report
    },
    async flush () {
      for (const tie of ties) tie.undo()
      await endExporters()
      await flushLog(app.log)
    },
    lastWord (message) {
      app.log.error({ shutdown: { phase: phase.current, inside: traffic.drains.flatMap(drain => drain.inside()) } }, `shutdown: ${message}`)
    }
  })
  const drained = async (): Promise<Teardown> => (teardown = await ending.drained())

  const steerable = { start: ending.start, state, on: phase.on }
  // Each does nothing where its manager is not there; `signals: false` leaves the process alone altogether.
  const ties = settings.signals === false
    ? []
    : [tiePm2(steerable), tieCluster(steerable), tieSystemd(steerable, { onProblem: error => onProblem('systemd cannot be told', error) })]

  // First of all, so that it runs last: whatever was registered later has had its turn.
  app.addHook('onClose', async () => {
    await drained()
    await ending.finish()
  })
  const hooks = takeOverHooks(app, {
    drained,
    timeout: () => Math.min(timeouts.resources, coordinator.remaining()),
    onResult (result) {
      coordinator.hookDone(result)
      events.emit({ type: 'hook', result })
    }
  })

  const shutdown: Shutdown = {
    start: reason => ending.start({ kind: 'start', detail: reason ?? '' }),
    resource (name, resource) {
      if (phase.reached('shutdown')) throw new ShutdownLateError(name, phase.current)
      const remove = registry.add(name, resource, !booted)
      if (!booted) hooks.mark(app, closing => closing.open(name))
      else if (phase.reached('cleaning')) teardown?.add(name, registry.all.get(name)!)
      else if (phase.current !== 'running') coordinator.pause()
      return remove
    },
    waitUntil (promise, { name = 'waitUntil' } = {}) {
      if (phase.reached('cleaning')) throw new ShutdownLateError(name, phase.current)
      tasks.add(name, promise)
    },
    task: (name, work) => phase.reached('cleaning') ? Promise.reject(new ShutdownLateError(name, phase.current)) : tasks.run(name, work),
    stream: (source, streamOptions = {}) => endingStream(source, streamOptions, abort.signal),
    on: phase.on,
    cut: traffic.cut
  }
  app.decorate('shutdown', { getter: () => shutdown })
  app.decorate('shutdownState', { getter: () => state })
  app.decorateRequest('shutdownSignal', { getter () { return traffic.table.signalOf(this) } })

  app.addHook('onRoute', route => {
    checkRoute(route.url, route.config?.shutdown, settings.categories)
    route.handler = traffic.table.handler(route.handler)
  })
  app.addHook('onRequest', createGate({ phase, state, traffic, refusal, errorResponseBuilder: settings.errorResponseBuilder, onProblem }))
  if (settings.probes !== false) addProbes(app, settings.probes, state, () => booted, refusal.retryAfter, onProblem)
  app.addHook('onReady', async () => {
    for (const { name, resource } of adopt(hooks.instances, adapt, () => teardown, name => registry.all.has(name))) registry.adopt(name, resource)
    registry.seal()
    // Here, and not in preClose: `closing` is not set yet, so requests reach our own 503, and no avvio timeout applies.
    // `onClose` is avvio's method; Fastify has no type for it.
    const root = app as unknown as { onClose(hook: () => Promise<void>): void }
    root.onClose(async () => { await drained() })
    booted = true
    const warnings = [...settings.warnings, ...unseen]
    events.emit({ type: 'platform', platform: settings.platform, delay: settings.delay, gracePeriod: settings.gracePeriod, timeouts, warnings })
  })
  app.addHook('onListen', async () => {
    traffic.servers.refresh()
    for (const tie of ties) tie.ready()
  })
}

function refuseWrongPlace (app: FastifyInstance): void {
  if (app.hasDecorator('shutdownState')) throw new ShutdownRegistrationError('fastify-shutdown is already registered: one for each server, at its root')
  // Fastify makes a child with its parent as prototype; the root is a plain object.
  if (Object.getPrototypeOf(app) !== Object.prototype) {
    throw new ShutdownRegistrationError('fastify-shutdown must be registered at the root of the server, got an encapsulated context: its routes would be the only ones drained')
  }
}

/** fastify-plugin's names of what this context has registered: Fastify keeps them under a symbol that all may ask for. */
const registered = Symbol.for('registered-plugin')

/** What cannot be seen is said: the onClose hooks of plugins that were there before us run after ours, in no time of ours. */
function warnOfEarlier (app: FastifyInstance): string[] {
  const names = (app as unknown as Record<symbol, readonly string[] | undefined>)[registered] ?? []
  const earlier = names.filter(name => name !== 'fastify-shutdown')
  if (earlier.length === 0) return []
  return [`registered before fastify-shutdown: ${earlier.join(', ')}; their onClose hooks run after everything else, without a deadline. Register fastify-shutdown first`]
}
