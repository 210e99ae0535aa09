/** The plugin: the host of the core for a Fastify app. It adds the decorators and hooks. */
import type { FastifyInstance, RouteOptions } from 'fastify'
import type { ShutdownOptions } from '../types/index'
import { createBase, createCore } from './core'
import { checkRoute } from './http/categories'
import { markObserved, observeEarlierRoutes } from './http/earlier-routes'
import { forgetExempt } from './http/last-request'
import { createLateHooks } from './http/late-hooks'
import { observeHooks, observeRoute } from './http/observed-code'
import { createOnRequest } from './http/on-request'
import { createAppClose } from './lifecycle/app-close'
import { resolveOptions } from './options'
import { isWatchedByFastifyCli } from './process/fastify-cli'
import { detectPlatform } from './process/platform'
import { findRoot, warningsOf } from './registration'
import { interceptCloseHooks } from './resources/close-hooks'
import { secondaryServersOf } from './util/node-internals'

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
  const base = createBase()
  const close = createAppClose(app)
  const lateHooks = createLateHooks(app, base.tasks)
  const core = createCore(settings, base, {
    log: app.log,
    servers: {
      main: app.server,
      all: () => [app.server, ...secondaryServersOf(app)],
      handler: () => (req, res) => { app.routing(req, res) },
      isExempt: null
    },
    close,
    hooks: options => interceptCloseHooks(app, lateHooks.wrapHook, options)
  })
  const { state, methods, traffic, rejection, sequence } = core
  const { lifecycle, events, onProblem } = base
  app.decorate('shutdown', { getter: () => methods })
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
  if (core.probes.length > 0) {
    (require('./http/probes') as typeof import('./http/probes.js')).addProbes(app, core.probes)
  }
  app.addHook('onReady', async () => {
    core.seal()
    stopObserving()
    // Not in preClose: Fastify then answers requests with its own 503, and avvio's pluginTimeout applies.
    // `onClose` is a method of avvio, for which Fastify has no type.
    ;(app as unknown as { onClose(hook: () => Promise<void>): void }).onClose(async () => { await sequence.drain() })
    core.boot(warnings)
  })
  app.addHook('onListen', async () => { core.listening() })
  close.intercept()
}
