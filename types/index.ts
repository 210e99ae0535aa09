/**
 * The public contract, as types: options, state, what one can do, and the report.
 * A `.ts` file and not a `.d.ts`, because tsc does not copy hand-written declarations into `dist`.
 */
import type { FastifyInstance, FastifyPluginCallback, FastifyRequest } from 'fastify'
import type { Readable } from 'node:stream'

/** The phases of a server's life, in their order. None is entered twice or left for an earlier one. */
export type Phase = 'running' | 'lame-duck' | 'draining' | 'cleaning' | 'shutdown'

/** A signal that can begin a shutdown: those that close-with-grace listens to and that are safe to handle in JavaScript. */
export type ShutdownSignal = 'SIGTERM' | 'SIGINT' | 'SIGHUP' | 'SIGQUIT' | 'SIGUSR2'

/** What began a shutdown. `detail` is the signal's name, the error's message, the caller's word, or the message. */
export interface ShutdownReason {
  readonly kind: 'signal' | 'error' | 'close' | 'start' | 'message'
  readonly detail: string
}

/** Longest time of each stage, in milliseconds. */
export interface Timeouts {
  /** For the requests in flight. @default 30_000 */
  readonly requests?: number
  /** For answers that stream, and for WebSockets. @default 10_000 */
  readonly streams?: number
  /** For background tasks; its clock starts when requests and streams are in. @default 10_000 */
  readonly tasks?: number
  /** For each resource and each of the app's own onClose hooks; this share of the total is kept back for them. @default 10_000 */
  readonly resources?: number
  /** For everything after `delay`. @default 60_000 */
  readonly total?: number
}

/** How much the plugin remembers of each request in flight. */
export type Track = 'count' | 'category' | 'detail'

/**
 * Something that has to be closed when the server is gone: a database pool, a cache, a queue worker.
 * An object with `Symbol.asyncDispose` or `Symbol.dispose` may stand in its place.
 */
export interface Resource {
  /** What this one uses. Those close after it. */
  readonly dependsOn?: readonly string[]
  /** Take in no new work. Called when lame-duck or draining begins, bounded by `timeout`. */
  pause?(): void | Promise<void>
  /** Finish and let go. The signal aborts at `timeout`. */
  close?(signal: AbortSignal): void | Promise<void>
  /** Let go at once. Called where `close` did not settle in time. */
  force?(): void | Promise<void>
  /** Longest time `close` may take, in milliseconds. @default timeouts.resources */
  readonly timeout?: number
  /** What may still write while the others close: logs, metrics, traces. Closes after all that are not `last`. @default false */
  readonly last?: boolean
  /** More about this resource for the report, asked for after it closed. */
  detail?(): Readonly<Record<string, unknown>> | undefined
}

/** A known client (a pg Pool, a BullMQ worker, …) that finds its adapter by itself. */
export interface ClientResource {
  readonly client: object
  readonly dependsOn?: readonly string[]
  readonly timeout?: number
}

export type ResourceInput = Resource | ClientResource | AsyncDisposable | Disposable

export interface Probes {
  /** Path of the liveness route, `false` for none. @default '/health/live' */
  readonly liveness?: string | false
  /** Path of the readiness route, `false` for none. @default '/health/ready' */
  readonly readiness?: string | false
  /** Path of the startup route, `false` for none. @default '/health/startup' */
  readonly startup?: string | false
  /**
   * What must hold for the service to be ready. The checks run in parallel, and probes share the current run of each. A
   * run that exceeds its timeout is given up, and the next probe starts a new one. Their errors never reach the body.
   */
  readonly checks?: Readonly<Record<string, Check | { readonly check: Check, readonly timeout?: number }>>
}

/**
 * Ready unless it throws, rejects, resolves to `false`, or takes longer than its timeout (default 2 000 ms). The signal
 * aborts at the timeout. Pass it on where the client takes one: a run that was given up keeps its connection until it
 * settles.
 */
export type Check = (signal: AbortSignal) => unknown

/** Someone who listens to what happens. */
export interface Exporter {
  readonly name: string
  /** Called once at registration; may return what undoes it, called after the report. */
  start(source: ExporterSource): void | (() => void | Promise<void>)
}

export interface ExporterSource {
  readonly state: ShutdownState
  /** @returns undo */
  listen(listener: (event: ShutdownEvent) => void): () => void
}

/** What happened, as data. Loggers, metrics and traces listen; none of them is logic. */
export type ShutdownEvent =
  | { readonly type: 'platform', readonly platform: string, readonly delay: number, readonly gracePeriod: number | null, readonly timeouts: Required<Timeouts>, readonly warnings: readonly string[] }
  | { readonly type: 'phase', readonly phase: Phase, readonly previous: Phase, readonly reason: ShutdownReason, readonly atMs: number }
  | { readonly type: 'waiting', readonly phase: Phase, readonly elapsedMs: number, readonly remainingMs: number, readonly pending: readonly string[] }
  | { readonly type: 'cut', readonly what: 'request' | 'stream' | 'websocket' | 'http2-session' | 'task', readonly name: string, readonly ageMs: number | null }
  | { readonly type: 'resource', readonly result: ResourceResult }
  | { readonly type: 'hook', readonly result: HookResult }
  | { readonly type: 'task', readonly result: TaskResult, readonly error: Error | null }
  | { readonly type: 'problem', readonly message: string, readonly error: unknown }
  | { readonly type: 'report', readonly report: ShutdownReport }

export interface ShutdownOptions {
  /** Signals that begin a shutdown, through close-with-grace; `false`: the plugin touches no process listener. @default ['SIGTERM', 'SIGINT'] */
  readonly signals?: readonly ShutdownSignal[] | false
  /** Whether uncaughtException and unhandledRejection begin a shutdown that ends with exit code 1. @default true where `signals` is on */
  readonly uncaughtErrors?: boolean
  /** Length of `lame-duck` in milliseconds. @default by platform: Kubernetes 5_000, PM2 and cluster workers 1_000, else 0 */
  readonly delay?: number
  readonly timeouts?: Timeouts
  /** What the orchestrator grants before SIGKILL, in milliseconds. `delay + timeouts.total` must fit in it. @default by platform */
  readonly gracePeriod?: number
  /**
   * Whole seconds of the Retry-After header (RFC 9110, section 10.2.3). `[min, max]` is drawn evenly for each answer, so
   * that a crowd does not come back as one. @default 10
   */
  readonly retryAfter?: number | readonly [min: number, max: number] | ((state: ShutdownState) => number)
  /**
   * What a new connection meets while draining. `'answer'`: it is accepted, and its request gets the 503. `'refuse'`: the
   * listeners close when draining begins, for proxies that retry a refused connection but hand on a 503. `'auto'`: `'refuse'`
   * after a lame-duck, else `'answer'`. @default 'auto'
   */
  readonly newConnections?: 'auto' | 'answer' | 'refuse'
  /** The 503's body, or a promise of it. @default an error with code FST_ERR_SHUTDOWN_DRAINING through the app's own error handler */
  readonly errorResponseBuilder?: (request: FastifyRequest, state: ShutdownState) => unknown
  /** Name -> drain time in milliseconds. @default {} */
  readonly categories?: Readonly<Record<string, number>>
  /** Which category a request is of; `undefined` for none. A route's `config.shutdown.category` comes first. */
  readonly categorize?: (request: FastifyRequest) => string | undefined
  /** How much is remembered of each request in flight. @default 'count' */
  readonly track?: Track
  /** Health routes. @default false */
  readonly probes?: boolean | Probes
  /** Who listens to the events besides the log and diagnostics_channel. @default [] */
  readonly exporters?: readonly Exporter[]
  /** What to close, by name. @default {} */
  readonly resources?: Readonly<Record<string, ResourceInput>>
  /** Last word to each open WebSocket before its close frame 1001; `true` is `{"type":"close","reason":"server_shutdown"}`. @default false */
  readonly webSocketMessage?: boolean | string | Buffer
  /** Whether the process is ended once every instance in it has closed; a plain `app.close()` never ends it. @default true where `signals` is on */
  readonly exit?: boolean
  /** Called with the report; what it throws is logged and changes nothing. */
  readonly onReport?: (report: ShutdownReport) => void | Promise<void>
}

/** One request in flight, as far as `track` knows it. */
export interface InFlight {
  readonly id: string
  readonly method: string
  /** The route's pattern, never the URL. */
  readonly route: string
  readonly ageMs: number | null
  readonly category: string | null
  readonly kind: 'request' | 'stream'
}

/** Lifetime counts. `received` = `completed` + `rejected` + `aborted` + `cut` + those in flight. */
export interface ShutdownStats {
  readonly received: number
  readonly completed: number
  readonly rejected: number
  readonly aborted: number
  readonly cut: number
  readonly tasksCompleted: number
  readonly tasksCancelled: number
  readonly tasksFailed: number
  readonly tasksAbandoned: number
}

/** `fastify.shutdownState`: live, read-only, safe to return from a route. */
export interface ShutdownState {
  readonly phase: Phase
  /** Whether a load balancer should send traffic here. */
  readonly ready: boolean
  /** Whether new requests are served. */
  readonly accepting: boolean
  /** What began the shutdown, `null` while running. */
  readonly reason: ShutdownReason | null
  /** Aborted the moment draining begins. */
  readonly signal: AbortSignal
  /** Milliseconds until all must be over; `Infinity` while running. */
  readonly remaining: number
  readonly activeRequests: number
  /** Answers whose headers are out and whose body is not over; disjoint from `activeRequests`. */
  readonly activeStreams: number
  readonly activeWebSockets: number
  readonly activeTasks: number
  readonly stats: ShutdownStats
  /** What is in flight, as far as `track` knows. */
  requests(): InFlight[]
  /** Route patterns and numbers only: no URLs, ids, hosts or stack traces. */
  toJSON(): Record<string, unknown>
}

export interface StreamOptions {
  /** Sent last when draining begins. */
  readonly end?: string | Uint8Array | (() => string | Uint8Array)
}

/** Whatever `stream()` can read from. */
export type StreamSource = AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>

/** `fastify.shutdown`: what one can do. */
export interface Shutdown {
  /** Begin a shutdown. Always resolves to the report; asked twice, done once. Do not await it in a handler: the drain waits for that request. */
  start(reason?: string): Promise<ShutdownReport>
  /** Add a resource. @returns undo, which may be called twice */
  resource(name: string, resource: ResourceInput): () => void
  /** Draining waits for it. */
  waitUntil(promise: PromiseLike<unknown>, options?: { readonly name?: string }): void
  /** Run work that draining waits for; its signal is aborted when draining begins. @returns what `work` returns */
  task<T>(name: string, work: (signal: AbortSignal) => T | PromiseLike<T>): Promise<T>
  /** A Readable that, when draining begins, stops taking from its source, sends the end marker and ends. */
  stream(source: StreamSource, options?: StreamOptions): Readable
  /** Call the listener when the phase is entered. @returns undo @throws FST_ERR_SHUTDOWN_PHASE for an unknown phase */
  on(phase: Phase, listener: (phase: Phase) => void): () => void
  /** End one request now, by its id. @returns whether there was one */
  cut(id: string): boolean
}

export type Outcome = 'clean' | 'forced' | 'failed'

export interface PhaseResult {
  readonly phase: Phase
  /** Milliseconds since the shutdown began. */
  readonly startedMs: number
  readonly durationMs: number
  readonly outcome: Outcome
}

export interface CutRequest {
  readonly method: string
  readonly route: string
  /** `null` where `track` is `'count'`: nothing is remembered of a request's age. */
  readonly ageMs: number | null
  readonly category: string | null
}

export interface TaskResult {
  readonly name: string
  readonly outcome: 'completed' | 'cancelled' | 'failed' | 'abandoned'
  readonly durationMs: number
}

export interface ResourceResult {
  readonly name: string
  readonly outcome: 'closed' | 'forced' | 'failed' | 'abandoned'
  /** Milliseconds since the teardown began. */
  readonly startedMs: number
  readonly durationMs: number
  /** The dependants it waited for. */
  readonly waitedFor: readonly string[]
  readonly error: Error | null
  readonly detail?: Readonly<Record<string, unknown>>
}

export interface HookResult {
  /** The plugin that added it, as far as Fastify tells. */
  readonly name: string
  readonly outcome: 'closed' | 'failed' | 'abandoned'
  readonly startedMs: number
  readonly durationMs: number
  readonly error: Error | null
}

/** What happened, frozen. */
export interface ShutdownReport {
  readonly reason: ShutdownReason
  readonly outcome: Outcome
  readonly exitCode: 0 | 1
  /** ISO 8601. */
  readonly startedAt: string
  readonly durationMs: number
  readonly phases: readonly PhaseResult[]
  readonly requests: { readonly completed: number, readonly rejected: number, readonly aborted: number, readonly cut: readonly CutRequest[] }
  readonly streams: { readonly ended: number, readonly cut: number }
  readonly webSockets: { readonly closed: number, readonly terminated: number }
  readonly http2Sessions: { readonly closed: number, readonly destroyed: number }
  readonly sockets: { readonly idle: number, readonly silent: number, readonly destroyed: number }
  readonly tasks: readonly TaskResult[]
  readonly resources: readonly ResourceResult[]
  readonly hooks: readonly HookResult[]
  /** The chain of resources that set the duration of the teardown. */
  readonly criticalPath: readonly string[]
}

/** Result of `teardown()`. */
export interface TeardownResult {
  readonly outcome: Outcome
  readonly durationMs: number
  readonly resources: readonly ResourceResult[]
  readonly criticalPath: readonly string[]
}

/** A route's `config.shutdown`. */
export interface RouteShutdownConfig {
  /** One of the names in `categories`. */
  readonly category?: string
  /** Still served while draining: probes, metrics, a callback that lets running work finish. @default false */
  readonly exempt?: boolean
}

export type GracefulShutdown = FastifyPluginCallback<ShutdownOptions>

declare module 'fastify' {
  interface FastifyInstance {
    /** Where this server is in its life. Live and read-only. */
    readonly shutdownState: ShutdownState
    /** What one can do about it. */
    readonly shutdown: Shutdown
  }
  interface FastifyRequest {
    /** Aborted when this one request is about to be cut, or its client is gone. Made when first read. */
    readonly shutdownSignal: AbortSignal
  }
  interface FastifyContextConfig {
    shutdown?: RouteShutdownConfig
  }
}

export type { FastifyInstance }
