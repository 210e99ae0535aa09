/**
 * The names of `fastify-shutdown`. The default export is the plugin, and its options are `ShutdownOptions`. The types are
 * members of the default export, `gracefulShutdown.ShutdownReport` and so on; `gracefulShutdown.Options` is
 * `ShutdownOptions`.
 *
 * @module
 */
export type {
  Check, ClientResource, CutRequest, Exporter, ExporterSource, HookResult, InFlight, InFlightSample, LameDuckDelay,
  LameDuckEnd, Outcome, Phase, PhaseResult, Probes, Resource, ResourceInput, ResourceResult, RouteShutdownConfig,
  Shutdown, ShutdownEvent, ShutdownOptions, ShutdownReason, ShutdownReport, ShutdownSignal, ShutdownState,
  ShutdownStats, SseOptions, StreamChunk, StreamOptions, StreamSource, TaskResult, TeardownResult, Timeouts, Track
} from '../../types/index'
export { teardown } from '../../lib/resources/teardown'
export { sse } from '../../lib/util/sse'
