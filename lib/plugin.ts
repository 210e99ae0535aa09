/**
 * The plugin: creates the parts, connects them, and adds the decorators and hooks. It contains no rules: the steps of a
 * shutdown are in `lifecycle/shutdown.ts`.
 */
import type { FastifyInstance, RouteOptions } from 'fastify'
import type { ShutdownOptions } from '../types/index'
import { startAppExporters } from './exporters/app-exporters'
import { flushLog } from './exporters/log'
import { checkRoute } from './http/categories'
import { markObserved, observeEarlierRoutes } from './http/earlier-routes'
import { forgetExempt } from './http/last-request'
import { createLateHooks } from './http/late-hooks'
import { observeHooks, observeRoute } from './http/observed-code'
import { createOnRequest } from './http/on-request'
import { addProbes } from './http/probes'
import { createRejection } from './http/rejection'
import { createTraffic } from './http/traffic'
import { createAppClose } from './lifecycle/app-close'
import { createEvents } from './lifecycle/events'
import { createMethods } from './lifecycle/methods'
import { createLifecycle } from './lifecycle/phases'
import { createProblems } from './lifecycle/problems'
import { createShutdown } from './lifecycle/shutdown'
import { createState } from './lifecycle/state'
import { createTasks } from './lifecycle/tasks'
import { resolveOptions } from './options'
import { isWatchedByFastifyCli } from './process/fastify-cli'
import { detectPlatform, isClusterWorker } from './process/platform'
import { connectManagers } from './process/process-managers'
import { joinProcess } from './process/signals'
import { findRoot, warningsOf } from './registration'
import { createResources } from './resources/resources'

/** The plugin function of Fastify. Reports errors of the options and of the registration through `done`. */
export function plugin (app: FastifyInstance, options: ShutdownOptions, done: (error?: Error) => void): void {
  try {
    install(app, options)
  } catch (error) {
    // avvio does not catch it (its lib/plugin.js): it would be an uncaught exception, and `register` would never
    // settle.
    return done(error as Error)
  }
  done()
}

function install (context: FastifyInstance, options: ShutdownOptions): void {
  const { root: app, enclosing } = findRoot(context)
  const settings = resolveOptions(options, {
    ...detectPlatform(),
    // fastify-cli may start the next process while this one drains, and it listens on the same port.
    newConnections: isWatchedByFastifyCli() ? 'refuse' : 'auto'
  })
  const warnings = [...settings.warnings, ...warningsOf(app)]

  const problems = createProblems()
  const events = createEvents(error => problems.record('A listener of the events threw', error))
  const onProblem = (message: string, error: unknown): void => {
    problems.record(message, error)
    events.emit({ type: 'problem', message, error })
  }
  const lifecycle = createLifecycle(error => onProblem('A phase listener threw', error))
  const tasks = createTasks(lifecycle, (result, error) => {
    const { name, outcome } = result
    if (error !== null && outcome !== 'cancelled') problems.record(`Task '${name}' ${outcome}`, error)
    events.emit({ type: 'task', result, error })
  })
  const rejection = createRejection(settings.retryAfter, () => state, onProblem)
  const traffic = createTraffic(app, {
    settings,
    lifecycle,
    events,
    tasks,
    rejection,
    inCluster: isClusterWorker(),
    onProblem,
    // The service goes on with the next app, which has connections of its own to the managers.
    onHandover: () => managers.close()
  })
  const state = createState({ lifecycle, table: traffic.inFlight, tasks, webSockets: () => traffic.activeWebSockets })

  const close = createAppClose(app)
  const lateHooks = createLateHooks(app, tasks)
  const resources = createResources(app, {
    settings,
    lifecycle,
    drain: () => sequence.drain(),
    finish: () => sequence.finish(),
    runInside: close.runInside,
    onResource: result => events.emit({ type: 'resource', result }),
    onHook: result => events.emit({ type: 'hook', result }),
    onLastResources: (names, atMs) => events.emit({ type: 'last-resources', names, atMs }),
    wrapHook: lateHooks.wrapHook,
    onProblem
  })
  const source = { state, log: app.log, listen: events.listen }
  const endExporters = startAppExporters(settings.exporters, source, onProblem)
  const sequence = createShutdown({
    lifecycle,
    settings,
    state,
    events,
    tasks,
    traffic,
    resources,
    problems,
    close,
    joinProcess,
    async flush () {
      managers.close()
      await endExporters()
    },
    flushLog: () => flushLog(app.log),
    onForcedExit (message) {
      app.log.error({ shutdown: { phase: lifecycle.phase, pending: sequence.pending() } }, `shutdown: ${message}`)
    },
    onProblem
  })
  const managers = connectManagers({ start: sequence.start, state, on: lifecycle.on }, settings.signals, onProblem)

  const shutdown = createMethods({ sequence, lifecycle, tasks, resources, traffic })
  app.decorate('shutdown', { getter: () => shutdown })
  app.decorate('shutdownState', { getter: () => state })
  app.decorateRequest('shutdownSignal', { getter () { return traffic.inFlight.signalOf(this) } })

  const stopObserving = observeHooks(app)
  const observe = (route: RouteOptions): void => {
    observeRoute(route)
    forgetExempt(route, traffic.lastRequest)
    lateHooks.wrapRoute(route)
    checkRoute(route.url, route.config?.shutdown, settings.categories)
  }
  // Fastify copies the onRoute hooks into each context that it creates, and these exist already.
  for (const each of [app, ...enclosing]) {
    each.addHook('onRoute', route => {
      observe(route)
      markObserved(route)
    })
  }
  const { errorResponseBuilder } = settings
  const onRequest = createOnRequest({ lifecycle, state, traffic, rejection, events, errorResponseBuilder, onProblem })
  app.addHook('onRequest', observeEarlierRoutes(app, onRequest, { observe, onProblem }))
  addProbes(app, settings.probes, { lifecycle, state, retryAfter: rejection.retryAfter, onProblem })
  app.addHook('onReady', async () => {
    resources.seal()
    stopObserving()
    // Not in preClose: Fastify then answers requests with its own 503, and avvio's pluginTimeout applies.
    // `onClose` is a method of avvio, for which Fastify has no type.
    ;(app as unknown as { onClose(hook: () => Promise<void>): void }).onClose(async () => { await sequence.drain() })
    lifecycle.boot()
    const { platform, gracePeriod, timeouts } = settings
    const { min, max } = settings.delay
    const others = sequence.meetOthers()
    events.emit({
      type: 'platform',
      platform,
      delay: min === max ? max : settings.delay,
      gracePeriod,
      // A copy, because the end of lame-duck changes them.
      timeouts: { ...timeouts },
      notes: others.notes,
      warnings: [...warnings, ...others.warnings]
    })
  })
  app.addHook('onListen', async () => {
    traffic.servers.refresh()
    managers.notifyReady()
  })
  close.intercept()
}
