/** The public names of the package. */
import fp = require('fastify-plugin')
import type * as Types from '../types/index'
import { plugin } from './plugin'
import { teardown } from './resources/teardown'
import { sse } from './util/sse'

// It contains only types, so that it can have the same name as the constant.
declare namespace gracefulShutdown {
  export type Options = Types.ShutdownOptions
  export type Check = Types.Check
  export type ClientResource = Types.ClientResource
  export type CutRequest = Types.CutRequest
  export type Exporter = Types.Exporter
  export type ExporterSource = Types.ExporterSource
  export type HookResult = Types.HookResult
  export type InFlight = Types.InFlight
  export type InFlightSample = Types.InFlightSample
  export type LameDuckDelay = Types.LameDuckDelay
  export type LameDuckEnd = Types.LameDuckEnd
  export type Outcome = Types.Outcome
  export type Phase = Types.Phase
  export type PhaseResult = Types.PhaseResult
  export type Probes = Types.Probes
  export type Resource = Types.Resource
  export type ResourceInput = Types.ResourceInput
  export type ResourceResult = Types.ResourceResult
  export type RouteShutdownConfig = Types.RouteShutdownConfig
  export type Shutdown = Types.Shutdown
  export type ShutdownEvent = Types.ShutdownEvent
  export type ShutdownReason = Types.ShutdownReason
  export type ShutdownReport = Types.ShutdownReport
  export type ShutdownSignal = Types.ShutdownSignal
  export type ShutdownState = Types.ShutdownState
  export type ShutdownStats = Types.ShutdownStats
  export type SseOptions = Types.SseOptions
  export type StreamChunk = Types.StreamChunk
  export type StreamOptions = Types.StreamOptions
  export type StreamSource = Types.StreamSource
  export type TaskResult = Types.TaskResult
  export type TeardownResult = Types.TeardownResult
  export type Timeouts = Types.Timeouts
  export type Track = Types.Track
}

interface Exported extends Types.GracefulShutdown {
  readonly default: Exported
  readonly gracefulShutdown: Exported
  readonly sse: typeof sse
  readonly teardown: typeof teardown
}

/**
 * The plugin. Register it before all other plugins, at the root: `await app.register(gracefulShutdown)`.
 *
 * @throws FST_ERR_SHUTDOWN_OPTION, FST_ERR_SHUTDOWN_BUDGET, FST_ERR_SHUTDOWN_RESOURCE, FST_ERR_SHUTDOWN_REGISTRATION at
 *   registration
 */
// eslint-disable-next-line @typescript-eslint/no-redeclare -- a namespace of types and a constant merge into one export
const gracefulShutdown = fp(plugin, { fastify: '5.x', name: 'fastify-shutdown' }) as Exported
Object.assign(gracefulShutdown, { default: gracefulShutdown, gracefulShutdown, sse, teardown })

// For Node's cjs-module-lexer: it finds the names of `import { gracefulShutdown } from 'fastify-shutdown'` in these
// lines.
module.exports.gracefulShutdown = gracefulShutdown
module.exports.sse = sse
module.exports.teardown = teardown

export = gracefulShutdown
