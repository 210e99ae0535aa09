/** Joins the wings: options in, parts built, decorators and hooks added. It decides nothing; the story is in `lifecycle/shutdown.ts`. */
import type { FastifyInstance } from 'fastify'
import type { Shutdown, ShutdownOptions } from '../types/index'
import { diagnosticsChannelExporter } from './exporters/diagnostics-channel'
import { startExporters } from './exporters/exporter'
import { flushLog, logExporter } from './exporters/log'
import { checkRoute } from './http/categories'
import { wrapHandler } from './http/detached-handlers'
import { createOnRequest } from './http/on-request'
import { addProbes } from './http/probes'
import { createRejection } from './http/rejection'
import { createTraffic } from './http/traffic'
import { endingStream } from './lifecycle/ending-stream'
import { createEvents } from './lifecycle/events'
import { createLifecycle } from './lifecycle/phases'
import { createShutdown } from './lifecycle/shutdown'
import { createState } from './lifecycle/state'
import { createTasks } from './lifecycle/tasks'
import { resolveOptions } from './options'
import { connectCluster } from './process/cluster'
import { detectPlatform, isClusterWorker } from './process/platform'
import { connectPm2 } from './process/pm2'
import { joinProcess } from './process/signals'
import { connectSystemd } from './process/systemd'
import { checkRegistration, warningsOf } from './registration'
import { createResources } from './resources/resources'

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
  checkRegistration(app)
  const settings = resolveOptions(options, detectPlatform())
  const warnings = [...settings.warnings, ...warningsOf(app)]

  const events = createEvents()
  const onProblem = (message: string, error: unknown): void => events.emit({ type: 'problem', message, error })
  const lifecycle = createLifecycle(error => onProblem('A phase listener threw', error))
  const tasks = createTasks(lifecycle, (result, error) => events.emit({ type: 'task', result, error }))
  const rejection = createRejection(settings.retryAfter, () => state, onProblem)
  const traffic = createTraffic(app, { settings, lifecycle, events, rejection, inCluster: isClusterWorker(), onProblem })
  const state = createState({ lifecycle, table: traffic.inFlight, tasks, webSockets: () => traffic.activeWebSockets })

  const resources = createResources(app, {
    settings,
    lifecycle,
    drain: () => sequence.drain(),
    finish: () => sequence.finish(),
    onResource: result => events.emit({ type: 'resource', result }),
    onHook: result => events.emit({ type: 'hook', result }),
    onProblem
  })
  const endExporters = startExporters([logExporter(app.log), diagnosticsChannelExporter(), ...settings.exporters], { state, listen: events.listen }, onProblem)
  const sequence = createShutdown({
    lifecycle,
    settings,
    events,
    tasks,
    traffic,
    resources,
    close: () => app.close(),
    joinProcess,
    async flush () {
      for (const manager of managers) manager.close()
      await endExporters()
      await flushLog(app.log)
    },
    onForcedExit: message => app.log.error({ shutdown: { phase: lifecycle.phase, pending: sequence.pending() } }, `shutdown: ${message}`),
    onProblem
  })
  const server = { start: sequence.start, state, on: lifecycle.on }
  // `signals: false` leaves the process alone altogether.
  const managers = settings.signals === false
    ? []
    : [connectPm2(server), connectCluster(server), connectSystemd(server, { onProblem: error => onProblem('systemd is not notified', error) })]

  const shutdown: Shutdown = {
    start: reason => sequence.start({ kind: 'start', detail: reason ?? '' }),
    resource: resources.add,
    waitUntil: (promise, { name = 'waitUntil' } = {}) => tasks.add(name, promise),
    task: tasks.run,
    stream: (source, streamOptions = {}) => endingStream(source, streamOptions, lifecycle.signal),
    on: lifecycle.on,
    cut: traffic.cut
  }
  app.decorate('shutdown', { getter: () => shutdown })
  app.decorate('shutdownState', { getter: () => state })
  app.decorateRequest('shutdownSignal', { getter () { return traffic.inFlight.signalOf(this) } })

  app.addHook('onRoute', route => {
    checkRoute(route.url, route.config?.shutdown, settings.categories)
    route.handler = wrapHandler(route.handler)
  })
  app.addHook('onRequest', createOnRequest({ lifecycle, state, traffic, rejection, errorResponseBuilder: settings.errorResponseBuilder, onProblem }))
  if (settings.probes !== false) addProbes(app, settings.probes, state, () => lifecycle.booted, rejection.retryAfter, onProblem)
  app.addHook('onReady', async () => {
    resources.seal()
    // Not in preClose: there Fastify answers requests with its own 503, and avvio's pluginTimeout applies.
    // `onClose` is avvio's method; Fastify has no type for it.
    ;(app as unknown as { onClose(hook: () => Promise<void>): void }).onClose(async () => { await sequence.drain() })
    lifecycle.boot()
    const { platform, delay, gracePeriod, timeouts } = settings
    events.emit({ type: 'platform', platform, delay, gracePeriod, timeouts, warnings })
  })
  app.addHook('onListen', async () => {
    traffic.servers.refresh()
    for (const manager of managers) manager.notifyReady()
  })
}
