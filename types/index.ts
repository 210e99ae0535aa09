/**
 * The public contract as types: options, state, methods and the report.
 * A `.ts` file and not a `.d.ts`, because tsc does not copy hand-written declarations into `dist`.
 */
import type { FastifyBaseLogger, FastifyInstance, FastifyRequest } from 'fastify'
import type { Readable } from 'node:stream'

/** The phases of a server's life, in their order. A phase may be skipped, and is entered at most once. */
export type Phase = 'running' | 'lame-duck' | 'draining' | 'cleaning' | 'shutdown'

/** A signal that can begin a shutdown, and that is safe to handle in JavaScript. */
export type ShutdownSignal = 'SIGTERM' | 'SIGINT' | 'SIGHUP' | 'SIGQUIT' | 'SIGUSR2'

/**
 * What began a shutdown. `detail` is the name of the signal, the error's message, the argument of `start()`, or the
 * message of the process manager.
 */
export interface ShutdownReason {
  /**
   * What began it: a signal, an uncaught error, `app.close()`, `shutdown.start()`, or a message of a process manager.
   */
  readonly kind: 'signal' | 'error' | 'close' | 'start' | 'message'
  /** The signal's name, the error's message, the argument of `start()`, or the message. */
  readonly detail: string
}

/** Longest time of each part of the shutdown, in milliseconds. */
export interface Timeouts {
  /**
   * For the requests in flight, also if the answer has begun and has a Content-Length. If this is not set, an answer
   * that has begun may take all the time that resources and tasks do not need. @default 30_000
   */
  readonly requests?: number
  /**
   * For responses that stream, and for WebSockets. If this is not set, a response that streams may take all the time
   * that resources and tasks do not need. @default 10_000
   */
  readonly streams?: number
  /** For background tasks and onResponse hooks. This time begins when requests and streams are over. @default 10_000 */
  readonly tasks?: number
  /**
   * For each resource and each of the app's own onClose hooks. This part of the total is reserved for them. @default
   * 10_000
   */
  readonly resources?: number
  /** For everything after `delay`. @default 60_000 */
  readonly total?: number
}

/** How much the plugin remembers of each request in flight: nothing, its category, or its method, route, age and id. */
export type Track = 'count' | 'category' | 'detail'

/**
 * Something that must be closed after the server: a database pool, a cache, a queue worker.
 * An object with `Symbol.asyncDispose` or `Symbol.dispose` is a resource, too.
 */
export interface Resource {
  /**
   * Names of the resources that this one uses. They close after it. A name may also be that of a registered plugin,
   * such as `@fastify/mysql`: its onClose hooks, and those of the plugins that it registers, run after it.
   */
  readonly dependsOn?: readonly string[]
  /** Stops taking new work. Called when lame-duck or draining begins. It may take `timeout` milliseconds. */
  pause?(): void | Promise<void>
  /** Finishes the work and closes. The signal aborts after `timeout` milliseconds. */
  close?(signal: AbortSignal): void | Promise<void>
  /** Closes at once. Called if `close` did not settle in time. */
  force?(): void | Promise<void>
  /** Longest time of `close`, in milliseconds. @default timeouts.resources */
  readonly timeout?: number
  /**
   * Closes after all resources that are not `last`. Use it for logs, metrics and traces, because other resources still
   * write to them. @default false
   */
  readonly last?: boolean
  /** Details of this resource for the report. Called after it has closed. */
  detail?(): Readonly<Record<string, unknown>> | undefined
}

/** A client that an adapter turns into a resource: a pg Pool, a BullMQ worker, … */
export interface ClientResource {
  /** The client: a pg Pool, a BullMQ worker, … It may be a function, as that of knex. */
  readonly client: object
  /** Names of the resources that the client uses. They close after it. */
  readonly dependsOn?: readonly string[]
  /** Longest time to close the client, in milliseconds. @default timeouts.resources */
  readonly timeout?: number
}

/** A resource, or a value that can be turned into one. */
export type ResourceInput = Resource | ClientResource | AsyncDisposable | Disposable

/** Health routes. */
export interface Probes {
  /** Path of the liveness route, `false` for none. @default '/health/live' */
  readonly liveness?: string | false
  /** Path of the readiness route, `false` for none. @default '/health/ready' */
  readonly readiness?: string | false
  /** Path of the startup route, `false` for none. @default '/health/startup' */
  readonly startup?: string | false
  /**
   * Checks of readiness, by name: the service is ready if all of them succeed. They run in parallel, and probes share
   * the current run of each check. A run that exceeds its timeout is abandoned, and the next probe starts a new run.
   * The body of the response never contains their errors.
   */
  readonly checks?: Readonly<Record<string, Check | { readonly check: Check, readonly timeout?: number }>>
}

/**
 * One check of readiness. It fails if it throws, rejects, resolves to `false`, or exceeds its timeout (default 2 000
 * ms). The signal aborts at the timeout. Pass it to the client if the client accepts a signal, because an abandoned run
 * keeps its connection until it settles.
 */
export type Check = (signal: AbortSignal) => unknown

/** Receives the events of the shutdown. */
export interface Exporter {
  /** Names the exporter in log lines. */
  readonly name: string
  /**
   * Starts the exporter. Called once, at registration. It may return a function that ends it, which is called after the
   * report.
   */
  start(source: ExporterSource): void | (() => void | Promise<void>)
}

/** What an exporter receives. */
export interface ExporterSource {
  /** The live state. */
  readonly state: ShutdownState
  /** The log of the app, for what the exporter itself has to report. */
  readonly log: FastifyBaseLogger
  /**
   * Calls the listener with each event of the wanted types.
   *
   * @param wants returns whether the listener wants this type now. An event that no listener wants is not created.
   *   @default every type but `request-rejected`, which is frequent
   * @returns a function that removes the listener
   */
  listen(listener: (event: ShutdownEvent) => void, wants?: (type: ShutdownEvent['type']) => boolean): () => void
}

/** An event of the shutdown. Exporters write it to logs, metrics and traces. */
export type ShutdownEvent =
  | {
    readonly type: 'platform',
    readonly platform: string,
    readonly delay: number | Required<LameDuckDelay>,
    readonly gracePeriod: number | null,
    readonly timeouts: Required<Timeouts>,
    /** What is known about other owners of the process. */
    readonly notes: readonly string[],
    readonly warnings: readonly string[]
  }
  | {
    readonly type: 'phase',
    readonly phase: Phase,
    readonly previous: Phase,
    readonly reason: ShutdownReason,
    readonly atMs: number,
    /** Why lame-duck ended; `null` if there was none, or while it lasts. */
    readonly lameDuckEnd: LameDuckEnd | null
  }
  | {
    readonly type: 'waiting',
    readonly phase: Phase,
    readonly elapsedMs: number,
    readonly remainingMs: number,
    readonly pending: readonly string[]
  }
  | {
    /** A request was rejected with 503. Only a listener that asks for this type receives it. */
    readonly type: 'request-rejected',
    readonly method: string,
    /** The route's pattern, never the URL. Empty for a request that reached no route. */
    readonly route: string
  }
  | {
    readonly type: 'request-cut',
    readonly what: 'request' | 'stream' | 'websocket' | 'http2-session' | 'task',
    readonly name: string,
    readonly ageMs: number | null
  }
  | { readonly type: 'resource', readonly result: ResourceResult }
  | { readonly type: 'hook', readonly result: HookResult }
  | {
    /**
     * The resources that close before the `last` ones have settled, and the first `last` resource closes right after
     * this event. Emitted at most once, and not if no resource is `last`.
     */
    readonly type: 'last-resources',
    /** The names of the `last` resources. */
    readonly names: readonly string[],
    /** Milliseconds since the shutdown began. */
    readonly atMs: number
  }
  | { readonly type: 'task', readonly result: TaskResult, readonly error: Error | null }
  | { readonly type: 'problem', readonly message: string, readonly error: unknown }
  | { readonly type: 'report', readonly report: ShutdownReport }

/**
 * A lame-duck that ends when it may: after at least `min`, when no request has come for `quiet`, after at most `max`.
 * Probes, exempt routes, and requests, streams and WebSockets that are in flight do not prolong it.
 */
export interface LameDuckDelay {
  /** Shortest length, in milliseconds. @default 0 */
  readonly min?: number
  /** Longest length, in milliseconds. */
  readonly max: number
  /**
   * How long no request may have come, in milliseconds. It counts from the last request, also from one before the
   * shutdown. A new connection counts until its first request is exempt, or until it closes without a request.
   * @default 1_000
   */
  readonly quiet?: number
}

/**
 * Why lame-duck ended. `delay`: its fixed length was over. `quiet`: no request had come for `quiet` milliseconds.
 * `max`: it took its longest time, while requests still came.
 */
export type LameDuckEnd = 'delay' | 'quiet' | 'max'

/** The options of the plugin. All are optional. */
export interface ShutdownOptions {
  /**
   * Signals that begin a shutdown. `false`: the plugin adds no process listener. @default ['SIGTERM', 'SIGINT'], and
   * `false` in a test runner
   */
  readonly signals?: readonly ShutdownSignal[] | false
  /**
   * Whether uncaughtException and unhandledRejection begin a shutdown with exit code 1. @default true if `signals` is
   * on
   */
  readonly uncaughtErrors?: boolean
  /**
   * Length of lame-duck, in milliseconds: a fixed number, or a range that ends when no request comes. @default by
   * platform: Kubernetes `{ min: 5_000, max: 15_000, quiet: 1_000 }`, at most half of the grace period; PM2 and cluster
   * workers 1_000; fastify-cli and test runners 0; else `{ min: 0, max: 2_000, quiet: 500 }`
   */
  readonly delay?: number | LameDuckDelay
  /** Longest time of each part of the shutdown, in milliseconds. */
  readonly timeouts?: Timeouts
  /**
   * Time between the request to stop and SIGKILL, in milliseconds. `delay + timeouts.total` must fit in it. @default by
   * platform
   */
  readonly gracePeriod?: number
  /**
   * Whole seconds of the Retry-After header (RFC 9110, section 10.2.3). `[min, max]` is a random number for each 503,
   * so that clients do not all retry at the same time. @default 10
   */
  readonly retryAfter?: number | readonly [min: number, max: number] | ((state: ShutdownState) => number)
  /**
   * How a new connection is handled while draining. `'answer'`: it is accepted, and its request gets the 503.
   * `'refuse'`: the server stops listening when draining begins, for proxies that retry a refused connection but pass a
   * 503 to the client. `'auto'`: `'refuse'` after a lame-duck, else `'answer'`. @default 'auto'
   */
  readonly newConnections?: 'auto' | 'answer' | 'refuse'
  /**
   * Returns the body of the 503, or a promise of it. The status code and Retry-After of a returned Error or Response
   * are not used. @default an error handler of the app gets FST_ERR_SHUTDOWN_DRAINING; without one, the body is that of
   * Fastify's own error handler
   */
  readonly errorResponseBuilder?: (request: FastifyRequest, state: ShutdownState) => unknown
  /** Name of a category -> its drain time, in milliseconds. @default {} */
  readonly categories?: Readonly<Record<string, number>>
  /** Returns the category of a request, or `undefined`. A route's `config.shutdown.category` comes first. */
  readonly categorize?: (request: FastifyRequest) => string | undefined
  /** What the plugin records of each request in flight. @default 'count' */
  readonly track?: Track
  /** Health routes. @default false */
  readonly probes?: boolean | Probes
  /** Exporters of the events, in addition to the log and diagnostics_channel. @default [] */
  readonly exporters?: readonly Exporter[]
  /** Resources to close, by name. @default {} */
  readonly resources?: Readonly<Record<string, ResourceInput>>
  /**
   * Last message to each open WebSocket, before its close frame 1001. `true` is
   * `{"type":"close","reason":"server_shutdown"}`. @default false
   */
  readonly webSocketMessage?: boolean | string | Buffer
  /**
   * Whether the process ends when every Fastify instance in it has closed. A plain `app.close()` never ends it.
   * @default true if `signals` is on
   */
  readonly exit?: boolean
  /** Called with the report. An error that it throws is logged and changes nothing. */
  readonly onReport?: (report: ShutdownReport) => void | Promise<void>
}

/** One request in flight. The option `track` decides which details it has. */
export interface InFlight {
  /** `request.id` as a string; empty while it is not known. */
  readonly id: string
  /** The HTTP method. */
  readonly method: string
  /** The route's pattern, never the URL. */
  readonly route: string
  /** Milliseconds since it arrived; `null` unless `track` is `'detail'`. */
  readonly ageMs: number | null
  /** The category; `null` if it has none. */
  readonly category: string | null
  /** `stream` if the headers are sent without a Content-Length, and the body is not over. */
  readonly kind: 'request' | 'stream'
  /**
   * What the request waits for. `client`: the rest of its body has not arrived, or the client does not read the answer
   * that was written. Otherwise `app`.
   */
  readonly waitsFor: 'app' | 'client'
}

/** Counts since the app was created. `received` = `completed` + `rejected` + `aborted` + `cut` + in flight. */
export interface ShutdownStats {
  /** Requests that have arrived. */
  readonly received: number
  /** Requests whose response was sent to its last byte. */
  readonly completed: number
  /** Requests that were rejected with 503 while draining. */
  readonly rejected: number
  /** Requests whose client left before the end of the response. */
  readonly aborted: number
  /** Requests that were cut because their time was up. */
  readonly cut: number
  /** Tasks that resolved. */
  readonly tasksCompleted: number
  /** Tasks that stopped because of their signal. */
  readonly tasksCancelled: number
  /** Tasks that rejected. */
  readonly tasksFailed: number
  /** Tasks that still ran when their time was up. */
  readonly tasksAbandoned: number
}

/** `fastify.shutdownState`: live, read-only, and safe to return from a route. */
export interface ShutdownState {
  /** The current phase. */
  readonly phase: Phase
  /** Whether a load balancer should send traffic to this server. */
  readonly ready: boolean
  /** Whether new requests are served. */
  readonly accepting: boolean
  /** What began the shutdown; `null` while running. */
  readonly reason: ShutdownReason | null
  /** Why lame-duck ended; `null` if there was none, or while it lasts. */
  readonly lameDuckEnd: LameDuckEnd | null
  /** Aborts when draining begins. */
  readonly signal: AbortSignal
  /** Milliseconds until all must be over; `Infinity` while running. */
  readonly remaining: number
  /** Requests in flight that do not stream. An answer with a Content-Length is not a stream. */
  readonly activeRequests: number
  /** Responses in flight that stream: the headers are sent without a Content-Length, and the body is not over. */
  readonly activeStreams: number
  /** Open WebSockets, and other upgraded connections. */
  readonly activeWebSockets: number
  /** Tasks that run, without onResponse hooks. */
  readonly activeTasks: number
  /** Counts over the life of the app. */
  readonly stats: ShutdownStats
  /** Returns the requests in flight. The option `track` decides which details they have. */
  requests(): InFlight[]
  /** Returns route patterns and numbers only: no URL, id, host or stack trace. */
  toJSON(): Record<string, unknown>
}

/**
 * A value of `shutdown.stream()`. Strings and Buffers can be sent with `reply.send(stream)`. Objects need a consumer
 * that takes them, such as `reply.sse.send(stream)` of @fastify/sse.
 */
export type StreamChunk = string | Uint8Array | object

/** Options of `shutdown.stream()`. */
export interface StreamOptions {
  /**
   * The end marker: the last chunk, sent when draining begins, or a function that returns it. It has the type of the
   * other chunks: `sse()` for a stream of text, and an object for a stream of objects.
   */
  readonly end?: StreamChunk | (() => StreamChunk)
}

/** The parts of an end marker for server-sent events: the options of `sse()`. */
export interface SseOptions {
  /** The event's name. @default 'end' */
  readonly event?: string
  /** The event's data, as JSON. @default { type: 'end', reason: 'shutdown' } */
  readonly data?: unknown
  /** Time after which the client reconnects, in milliseconds (HTML standard, section 9.2.6). @default 1_000 */
  readonly retry?: number
}

/** A source of `shutdown.stream()`. */
export type StreamSource = AsyncIterable<StreamChunk> | Iterable<StreamChunk>

/** `fastify.shutdown`: the methods of the plugin. */
export interface Shutdown {
  /**
   * Begins a shutdown, or joins the current one. Always resolves to the report. Do not await it in a handler, because
   * the drain waits for the request of that handler.
   */
  start(reason?: string): Promise<ShutdownReport>
  /** Adds a resource. @returns a function that removes it, and may be called twice */
  resource(name: string, resource: ResourceInput): () => void
  /** Makes draining wait for a promise. @throws FST_ERR_SHUTDOWN_LATE if cleaning has begun */
  waitUntil(promise: PromiseLike<unknown>, options?: { readonly name?: string }): void
  /**
   * Runs work that draining waits for. Its signal aborts when draining begins.
   *
   * @returns what `work` returns. It rejects with FST_ERR_SHUTDOWN_LATE if cleaning has begun. If nothing handles this
   *   rejection, it is no uncaught error
   */
  task<T>(name: string, work: (signal: AbortSignal) => T | PromiseLike<T>): Promise<T>
  /**
   * Creates a Readable that, when draining begins, stops reading its source, sends the end marker and ends. The values
   * of the source pass through unchanged. The stream fails if a response would get an object.
   */
  stream(source: StreamSource, options?: StreamOptions): Readable
  /**
   * Calls the listener when the phase is entered.
   *
   * @returns a function that removes the listener
   * @throws FST_ERR_SHUTDOWN_PHASE for an unknown phase
   */
  on(phase: Phase, listener: (phase: Phase) => void): () => void
  /** Cuts one request now, by its id. @returns whether it was in flight */
  cut(id: string): boolean
}

/** How a shutdown, or a phase of it, ended. */
export type Outcome = 'clean' | 'forced' | 'failed'

/** One phase of the report. */
export interface PhaseResult {
  /** The name of the phase. */
  readonly phase: Phase
  /** Milliseconds since the shutdown began. */
  readonly startedMs: number
  /** Length of the phase, in milliseconds. */
  readonly durationMs: number
  /** The worst outcome of its parts. */
  readonly outcome: Outcome
  /** Why lame-duck ended. Only this phase has it. */
  readonly endedBy?: LameDuckEnd
}

/** A request that was cut. */
export interface CutRequest {
  /** The HTTP method. */
  readonly method: string
  /** The route's pattern, never the URL. */
  readonly route: string
  /** Milliseconds since it arrived; `null` unless `track` is `'detail'`. */
  readonly ageMs: number | null
  /** The category; `null` if it has none. */
  readonly category: string | null
  /** What it waited for when it was cut: see `InFlight`. */
  readonly waitsFor: 'app' | 'client'
}

/** A task of the report. */
export interface TaskResult {
  /** The name given to `task()` or `waitUntil()`, or `onResponse hook of …` for a hook that was abandoned. */
  readonly name: string
  /** How the task ended. */
  readonly outcome: 'completed' | 'cancelled' | 'failed' | 'abandoned'
  /**
   * Milliseconds since the shutdown began; negative if the task began before. For a task that ended before the
   * shutdown, it is counted from the end of the task.
   */
  readonly startedMs: number
  /** Milliseconds that the task ran. */
  readonly durationMs: number
}

/** A resource of the report. */
export interface ResourceResult {
  /** The name of the resource. */
  readonly name: string
  /** `closed` in time, `forced`, `failed` with an error, or `abandoned` because neither `close` nor `force` settled. */
  readonly outcome: 'closed' | 'forced' | 'failed' | 'abandoned'
  /** Milliseconds since the shutdown began, or since `teardown()` was called. */
  readonly startedMs: number
  /** Milliseconds that closing took. */
  readonly durationMs: number
  /** Names of the dependants that it waited for. */
  readonly waitedFor: readonly string[]
  /** The error of a resource that did not close. */
  readonly error: Error | null
  /** What the resource's `detail()` returned. */
  readonly detail?: Readonly<Record<string, unknown>>
}

/** A preClose or onClose hook of the report. */
export interface HookResult {
  /** The kind of the hook. */
  readonly hook: 'preClose' | 'onClose'
  /** The plugin that added the hook, or `app` for the app's own. */
  readonly name: string
  /** How the hook ended. */
  readonly outcome: 'closed' | 'failed' | 'abandoned'
  /** Milliseconds since the shutdown began. */
  readonly startedMs: number
  /** Milliseconds that the hook ran. */
  readonly durationMs: number
  /** The error of a hook that failed or was abandoned. */
  readonly error: Error | null
}

/** What is in flight at one time. It stays the same until the next sample. */
export interface InFlightSample {
  /** Milliseconds since the shutdown began. */
  readonly atMs: number
  /** Requests that do not stream. */
  readonly requests: number
  /** Responses that stream. */
  readonly streams: number
  /** Open WebSockets, and other upgraded connections. */
  readonly webSockets: number
}

/**
 * The report of a shutdown: frozen data. In JSON, an error is `{ name, message, code }`, and `report.schema.json` of
 * the package describes the report.
 */
export interface ShutdownReport {
  /** Version of this format. It changes if a field is removed or gets another meaning. */
  readonly schemaVersion: 1
  /** What began the shutdown. */
  readonly reason: ShutdownReason
  /** `failed` if something failed or was abandoned, `forced` if something was cut or forced, else `clean`. */
  readonly outcome: Outcome
  /**
   * 1 if the outcome is `failed`, or if a request or stream was cut while the app worked on it; else 0. A client that
   * does not read its answer, or does not send the rest of its request, makes the outcome `forced` and not the exit
   * code 1.
   */
  readonly exitCode: 0 | 1
  /** When the shutdown began, as ISO 8601. */
  readonly startedAt: string
  /** Length of the shutdown, in milliseconds. */
  readonly durationMs: number
  /** The phases that were entered. */
  readonly phases: readonly PhaseResult[]
  /** What was in flight, by time. At most 200 samples. */
  readonly inFlight: readonly InFlightSample[]
  /** Requests since the shutdown began. */
  readonly requests: {
    readonly completed: number
    readonly rejected: number
    readonly aborted: number
    readonly cut: readonly CutRequest[]
  }
  /** Streams that were open when draining began and ended, and those that were cut. */
  readonly streams: { readonly ended: number, readonly cut: number }
  /**
   * WebSockets that were closed in lame-duck or closed while draining, and those that were terminated at the end of
   * their time.
   */
  readonly webSockets: { readonly closed: number, readonly terminated: number }
  /** HTTP/2 sessions that closed while draining, and those that were destroyed at the end of their time. */
  readonly http2Sessions: { readonly closed: number, readonly destroyed: number }
  /** Connections that were closed while idle, before their first byte, or with a response in flight. */
  readonly sockets: { readonly idle: number, readonly silent: number, readonly destroyed: number }
  /** Tasks that ran when draining began, or began later. */
  readonly tasks: readonly TaskResult[]
  /** The resources, in the order in which they were registered. */
  readonly resources: readonly ResourceResult[]
  /** The app's preClose and onClose hooks. */
  readonly hooks: readonly HookResult[]
  /**
   * Every error of the shutdown: a crash, a resource, a hook, a listener, an exporter, our own code. The message names
   * the step that failed, and `cause` is its error. At most 100 errors that are not of a resource or hook are listed.
   */
  readonly errors: readonly Error[]
  /**
   * The chain of resources and hooks that set the duration, first to close first. A hook has the name
   * `onClose hook of <plugin>` or `preClose hook of <plugin>`.
   */
  readonly criticalPath: readonly string[]
}

/** Result of `teardown()`. */
export interface TeardownResult {
  /** The worst outcome of the resources. */
  readonly outcome: Outcome
  /** Length of the teardown, in milliseconds. */
  readonly durationMs: number
  /** The resources, in the order in which they were given. */
  readonly resources: readonly ResourceResult[]
  /** The chain of resources that took the longest, the first to close first. */
  readonly criticalPath: readonly string[]
}

/** A route's `config.shutdown`. */
export interface RouteShutdownConfig {
  /** A name in the option `categories`. */
  readonly category?: string
  /**
   * Whether the route is still served while draining. For probes, metrics, and callbacks that work in flight waits for.
   * @default false
   */
  readonly exempt?: boolean
}

declare module 'fastify' {
  interface FastifyInstance {
    /** The state of the shutdown. Live and read-only. */
    readonly shutdownState: ShutdownState
    /** The methods of the shutdown. */
    readonly shutdown: Shutdown
  }
  interface FastifyRequest {
    /** Aborts right before this request is cut, or when its client has left. Created at its first read. */
    readonly shutdownSignal: AbortSignal
  }
  interface FastifyContextConfig {
    /** How this route behaves during a shutdown. */
    shutdown?: RouteShutdownConfig
  }
}

export type { FastifyInstance }
