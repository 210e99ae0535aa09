/**
 * The wiring: options in, parts built, decorators and hooks hung up. Nothing here decides anything; the story is in
 * `coordinator.ts`.
 */
import cluster from 'node:cluster'
import { setMaxListeners } from 'node:events'
import type { FastifyInstance, FastifyReply, FastifyRequest, HookHandlerDoneFunction } from 'fastify'
import type { Shutdown, ShutdownOptions, ShutdownReason, ShutdownReport } from '../types/index'
import { adapterFor } from './adapter'
import { adopt } from './adoption'
import { createCategories, checkRoute } from './categories'
import { createCoordinator } from './coordinator'
import { turn, within } from './deadline'
import { connectionsDrain } from './drains/connections'
import { http2Drain } from './drains/http2'
import { requestsDrain } from './drains/requests'
import { streamsDrain } from './drains/streams'
import { webSocketsDrain } from './drains/websockets'
import { ShutdownDrainingError, ShutdownLateError, ShutdownRegistrationError, ShutdownTeardownError } from './errors'
import { createEvents } from './events'
import { startExporters } from './exporter'
import { diagnosticsExporter } from './exporters/diagnostics'
import { flushLog, logExporter } from './exporters/log'
import { takeOverHooks } from './hooks'
import { createInFlightTable, running } from './inflight'
import { later } from './later'
import { resolveOptions } from './options'
import { createPhaseLine } from './phase'
import { addProbes } from './probes'
import { detectPlatform } from './process/platform'
import { tieCluster } from './process/cluster'
import { tiePm2 } from './process/pm2'
import { joinProcess } from './process/signals'
import { tieSystemd } from './process/systemd'
import { createRefusal } from './refusal'
import { createRegistry } from './registry'
import { createReport, failuresOf } from './report'
import { createServers } from './servers'
import { createState } from './state'
import { endingStream } from './stream'
import { createTally } from './tally'
import { createTasks } from './tasks'
import type { Teardown } from './teardown'

/** What `start()` waits for beyond the report: hooks that were there before ours and run after it, in milliseconds. */
const afterReport = 1_000

export function plugin (app: FastifyInstance, options: ShutdownOptions, done: () => void): void {
  refuseWrongPlace(app)
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
  const table = createInFlightTable({
    track: settings.track,
    categories: createCategories(settings, onProblem),
    refuse: refusal.answer,
    linger: req => connections.linger(req),
    cutReason: () => new ShutdownDrainingError(),
    longest: timeouts.requests
  })
  const tally = createTally(table, events, phase)
  const requests = requestsDrain(table, timeouts.requests, timeouts.streams, settings.categories, tally.cut)
  const streams = streamsDrain(table, timeouts.streams, tally.cut)
  const webSockets = webSocketsDrain(timeouts.streams, settings.webSocketMessage, refusal.upgradeAnswer, name => tally.cutOther('websocket', name))
  const http2 = http2Drain({
    timeout: Math.max(requests.timeout, streams.timeout),
    busy: table.busySessions,
    served: table.served,
    onDestroy: () => tally.cutOther('http2-session', 'HTTP/2 session')
  })
  const connections = connectionsDrain(() => new Set([...table.busySockets(), ...webSockets.sockets()]))
  const drains = [requests, streams, webSockets, http2, connections]
  const servers = createServers(app, server => {
    server.prependListener('request', (req, res) => {
      table.track(req, res)
      // From here on Fastify answers with a 503 of its own, past every hook.
      if (phase.reached('cleaning')) res.setHeader('retry-after', refusal.retryAfter())
    })
    // A `listen()` that was on its way while the app closed would leave a listening server behind.
    server.on('listening', () => { if (phase.reached('cleaning')) void servers.stopListening(0) })
    for (const drain of [webSockets, http2, connections]) drain.attach(server)
  })
  servers.refresh()

  // What must close.
  const registry = createRegistry(settings.resources, adapterFor)
  let teardown: Teardown | null = null

  const coordinator = createCoordinator({
    phase,
    events,
    abort,
    drains,
    tasks,
    timeouts,
    delay: settings.delay,
    listening: () => servers.listening,
    refusing: hadLameDuck => settings.refuse === 'close' || (settings.refuse === 'auto' && hadLameDuck),
    stopListening: () => servers.stopListening(),
    endConnections,
    resources: () => registry.all,
    placed: () => registry.placed
  })
  let booted = false
  const state = createState({
    phase, table, tasks, signal: abort.signal, reason: () => coordinator.reason, remaining: coordinator.remaining, webSockets: () => webSockets.active, booted: () => booted
  })
  const endExporters = startExporters([logExporter(app.log), diagnosticsExporter(), ...settings.exporters], { state, listen: events.listen }, onProblem)
  phase.on('draining', () => {
    servers.protect()
    servers.askFirst()
  })

  // Who may ask for it.
  let asked: ShutdownReason = { kind: 'close', detail: 'app.close()' }
  let started: Promise<ShutdownReport> | null = null
  let crashed = false
  const membership = joinProcess({
    signals: settings.signals === false ? [] : settings.signals,
    errors: settings.errors,
    exit: settings.exit,
    budget: settings.delay + timeouts.total,
    stop: start,
    crash (error) {
      crashed = true
      onProblem('an error that nobody caught', error)
    },
    lastWord: message => app.log.error({ shutdown: { phase: phase.current, inside: drains.flatMap(drain => drain.inside()) } }, `shutdown: ${message}`)
  })

  const steerable = { start, state, on: phase.on }
  // Each does nothing where its manager is not there; `signals: false` leaves the process alone altogether.
  const ties = settings.signals === false
    ? []
    : [tiePm2(steerable), tieCluster(steerable), tieSystemd(steerable, { onProblem: error => onProblem('systemd cannot be told', error) })]

  // First of all, so that it runs last: whatever was registered later has had its turn.
  const reported = later<ShutdownReport>()
  app.addHook('onClose', finish)
  const hooks = takeOverHooks(app, {
    drained,
    timeout: () => Math.min(timeouts.resources, coordinator.remaining()),
    onResult (result) {
      coordinator.hookDone(result)
      events.emit({ type: 'hook', result })
    }
  })

  const shutdown: Shutdown = {
    start: reason => start({ kind: 'start', detail: reason ?? '' }),
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
    cut (id) {
      const known = table.list().some(entry => entry.id === id)
      if (known) void table.cut(entry => entry.id === id).then(entries => entries.forEach(tally.cut))
      return known
    }
  }
  app.decorate('shutdown', { getter: () => shutdown })
  app.decorate('shutdownState', { getter: () => state })
  app.decorateRequest('shutdownSignal', { getter () { return table.signalOf(this) } })

  app.decorateRequest(running, null)
  app.addHook('onRoute', route => {
    checkRoute(route.url, route.config?.shutdown, settings.categories)
    route.handler = table.handler(route.handler)
  })
  app.addHook('onRequest', onRequest)
  if (settings.probes !== false) addProbes(app, settings.probes, state, () => booted, refusal.retryAfter, onProblem)
  app.addHook('onReady', async () => {
    for (const { name, resource } of adopt(hooks.instances, adapterFor, () => teardown, name => registry.all.has(name))) registry.adopt(name, resource)
    registry.seal()
    // Here, and not in preClose: `closing` is not set yet, so requests reach our own 503, and no avvio timeout applies.
    // `onClose` is avvio's method; Fastify has no type for it.
    const root = app as unknown as { onClose(hook: () => Promise<void>): void }
    root.onClose(async () => { await drained() })
    booted = true
    events.emit({ type: 'platform', platform: settings.platform, delay: settings.delay, gracePeriod: settings.gracePeriod, timeouts, warnings: settings.warnings })
  })
  app.addHook('onListen', async () => {
    servers.refresh()
    for (const tie of ties) tie.ready()
  })
  done()

  function onRequest (request: FastifyRequest, reply: FastifyReply, next: HookHandlerDoneFunction): void {
    // An upgrade is no request: it has no answer that ends.
    if ((request.raw as { upgrade?: boolean }).upgrade === true) return next()
    if (!table.identify(request, reply.raw)) servers.add((request.raw.socket as { server?: unknown } | undefined)?.server)
    if (!phase.reached('draining')) return next()
    if (request.routeOptions.config?.shutdown?.exempt === true) {
      reply.raw.removeHeader('retry-after')
      if (request.raw.headers.expect !== undefined) reply.raw.writeContinue()
      return next()
    }
    table.reject(reply.raw)
    const retryAfter = refusal.retryAfter()
    reply.header('retry-after', retryAfter)
    // For error handlers to read; not enumerable, or each logged 503 would print it all.
    const error = Object.defineProperties(new ShutdownDrainingError(), { state: { value: state }, retryAfter: { value: retryAfter } })
    if (settings.rejection === undefined) return next(error)
    let payload: unknown
    try {
      payload = settings.rejection(request, state)
    } catch (thrown) {
      onProblem("'rejection' threw, the default is sent instead", thrown)
      return next(error)
    }
    reply.code(503).send(payload)
  }

  async function drained (): Promise<Teardown> {
    return (teardown = await coordinator.drained(asked))
  }

  /** Always resolves to the report, also where `app.close()` rejects, or never settles because of a hook before ours. */
  function start (reason: ShutdownReason): Promise<ShutdownReport> {
    return (started ??= run(reason))
  }

  async function run (reason: ShutdownReason): Promise<ShutdownReport> {
    asked = reason
    // Before it is ready, `close()` finishes the boot first, and only then the story may begin.
    if (booted) await drained()
    const closed = app.close()
    const report = await reported.promise
    await within(afterReport, () => closed)
    membership.leave(settings.exit ? report.exitCode : null)
    return report
  }

  async function endConnections (ms: number): Promise<'clean' | 'forced'> {
    // What came in with the last accepts is read in this turn, and gets its answer.
    await turn()
    await Promise.all([within(ms, table.empty), connections.lingered(ms)])
    const left = await table.cut(() => true)
    left.forEach(tally.cut)
    connections.finish()
    servers.unprotect()
    return left.length === 0 ? 'clean' : 'forced'
  }

  /** The last onClose hook. */
  async function finish (): Promise<void> {
    await drained()
    coordinator.serverGone()
    const story = await coordinator.shutDown(asked)
    const report = createReport(story, { ...tally.counts(), webSockets: webSockets.counts(), http2Sessions: http2.counts(), sockets: connections.counts(), tasks: tasks.results(), crashed })
    events.emit({ type: 'report', report })
    const listened = await within(timeouts.resources, () => settings.onReport?.(report))
    if (listened.status === 'rejected') onProblem("'onReport' threw", listened.reason)
    for (const tie of ties) tie.undo()
    await endExporters()
    await flushLog(app.log)
    reported.resolve(report)
    if (started === null) membership.leave(null)
    const failures = failuresOf(report)
    if (failures.length > 0) throw new ShutdownTeardownError(failures)
  }
}

function refuseWrongPlace (app: FastifyInstance): void {
  if (app.hasDecorator('shutdownState')) throw new ShutdownRegistrationError('fastify-shutdown is already registered: one for each server, at its root')
  // Fastify makes a child with its parent as prototype; the root is a plain object.
  if (Object.getPrototypeOf(app) !== Object.prototype) {
    throw new ShutdownRegistrationError('fastify-shutdown must be registered at the root of the server, got an encapsulated context: its routes would be the only ones drained')
  }
}
