/** The public names of the package. */
import fp = require('fastify-plugin')
import type { FastifyInstance } from 'fastify'
import type {
  Check, ClientResource, CutRequest, Exporter, ExporterSource, HookResult, InFlight, InFlightSample,
  LameDuckDelay, LameDuckEnd, Outcome, Phase, PhaseResult, Probes, Resource, ResourceInput, ResourceResult,
  RouteShutdownConfig, Shutdown, ShutdownEvent, ShutdownOptions, ShutdownReason, ShutdownReport, ShutdownSignal,
  ShutdownState, ShutdownStats, SseOptions, StreamChunk, StreamOptions, StreamSource, TaskResult, TeardownResult,
  Timeouts, Track
} from '../types/index'
import { plugin } from './plugin'
import { teardown } from './resources/teardown'
import { sse } from './util/sse'

/**
 * The members of the function below. Each type is exported by its own name, not through a type alias, because the
 * compiler can write only exported names into the declarations of an app (TS4023, TS2883).
 */
declare namespace gracefulShutdown {
  export {
    gracefulShutdown, gracefulShutdown as default, sse, teardown,
    ShutdownOptions as Options,
    Check, ClientResource, CutRequest, Exporter, ExporterSource, HookResult, InFlight, InFlightSample, LameDuckDelay,
    LameDuckEnd, Outcome, Phase, PhaseResult, Probes, Resource, ResourceInput, ResourceResult, RouteShutdownConfig,
    Shutdown, ShutdownEvent, ShutdownOptions, ShutdownReason, ShutdownReport, ShutdownSignal, ShutdownState,
    ShutdownStats, SseOptions, StreamChunk, StreamOptions, StreamSource, TaskResult, TeardownResult, Timeouts, Track
  }
}

/**
 * The plugin. Register it before all other plugins, at the root: `await app.register(gracefulShutdown)`.
 *
 * @throws FST_ERR_SHUTDOWN_OPTION, FST_ERR_SHUTDOWN_BUDGET, FST_ERR_SHUTDOWN_RESOURCE, FST_ERR_SHUTDOWN_REGISTRATION at
 *   registration
 */
function gracefulShutdown (app: FastifyInstance, options: ShutdownOptions, done: (error?: Error) => void): void {
  plugin(app, options, done)
}
fp(gracefulShutdown, { fastify: '5.x', name: 'fastify-shutdown' })
Object.assign(gracefulShutdown, { default: gracefulShutdown, gracefulShutdown, sse, teardown })

// For Node's cjs-module-lexer: it finds the names of `import { gracefulShutdown } from 'fastify-shutdown'` in these
// lines.
module.exports.gracefulShutdown = gracefulShutdown
module.exports.sse = sse
module.exports.teardown = teardown

export = gracefulShutdown
