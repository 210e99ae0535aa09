/**
 * Every access to private parts of Node, Fastify and ws. If the private part is missing, the function returns an empty
 * result, and its comment describes what is lost. `replaced-methods.ts` does the same for methods that are replaced.
 */
import type { Channel } from 'node:diagnostics_channel'
import { EventEmitter } from 'node:events'
import type { Server as HttpServer, ServerResponse } from 'node:http'
import { Server as NetServer, type Socket } from 'node:net'
import type { FastifyInstance, FastifyRequest, RouteHandlerMethod, RouteOptions } from 'fastify'

/** The part of a WebSocket of ws that is used here. @fastify/websocket or the app creates it. */
export interface WebSocketLike {
  /** 1 while the WebSocket is open (`WebSocket.OPEN`). */
  readonly readyState: number
  /** Sends one message. */
  send(data: string | Buffer): void
  /** Sends the close frame. */
  close(code: number, reason: string): void
  /** Adds a listener before the listeners of the app. */
  prependListener(event: 'message', listener: () => void): unknown
}

/**
 * Returns the HTTP/1 response that a socket sends now. Node sets `socket._httpMessage` when it parses the head of a
 * request, and removes it when the response is flushed. It is never a pipelined response that waits.
 *
 * Why: an ordinary request needs no entry and no listener while the server runs. Public alternative: an entry and a
 * `close` listener for each response. Without it, every request gets an entry and a listener, which is slower and
 * equally exact. An answer whose request no listener of ours has received is then closed with the idle connections.
 */
export function currentResponse (socket: Socket): ServerResponse | null | undefined {
  return (socket as Socket & { _httpMessage?: ServerResponse | null })._httpMessage
}

/**
 * Returns the Content-Length of an HTTP/1 response whose headers are sent. Node keeps the number in `_contentLength`.
 *
 * Why: an answer of known length is finite, and has more time than an endless one. Public alternative: `getHeader()`,
 * which does not return the headers that were given to `writeHead()` alone. Without it, an answer with such headers
 * counts as a stream.
 */
export function contentLengthOf (res: ServerResponse): unknown {
  return (res as ServerResponse & { readonly _contentLength?: number | null })._contentLength ??
    res.getHeader('content-length')
}

/**
 * Returns whether the headers are sent. @fastify/express replaces `res.headersSent` on the response, so it is read from
 * the class.
 */
export function headersSent (res: ServerResponse): boolean {
  return Reflect.get(Object.getPrototypeOf(res), 'headersSent', res)
}

/**
 * Returns whether the app has removed the `Connection` header of a response. Node keeps it in `_removedConnection`.
 *
 * Why: Node then writes no `Connection: close`, although the connection ends (RFC 9112, section 9.6). Public
 * alternative: to set the header on every answer, which takes longer. Without it, the client of such an answer does not
 * know that its connection ends.
 */
export function hasRemovedConnection (res: ServerResponse): boolean {
  return (res as ServerResponse & { readonly _removedConnection?: boolean })._removedConnection === true
}

/**
 * Returns the sockets of an HTTP/1 server that are between two requests. Node's parsers keep the list under a symbol,
 * and `server.closeIdleConnections()` reads it. Up to Node 26 it contains connections that have never sent a byte.
 *
 * Why: only the parser can distinguish an unfinished request head from an idle connection. Public alternative:
 * `closeIdleConnections()`, which also truncates answers that are ended but not flushed. Without it (HTTP/2 never has
 * it), idle connections stay open until the rest of the traffic is over, and end then.
 */
export function socketsBetweenRequests (server: HttpServer): Socket[] {
  const list = valueBySymbol(
    server, 'http.server.connections'
  ) as { idle?(): readonly { readonly socket: Socket | null }[] } | undefined
  return (list?.idle?.() ?? []).map(({ socket }) => socket).filter(socket => socket !== null)
}

/**
 * Returns for how long a socket has had no activity, in milliseconds; `undefined` if it has no timeout. A server sets
 * one between two requests (`keepAliveTimeout`). Node restarts the timer, which is under a symbol, with each activity.
 *
 * Why: a connection that is in use should not be closed between two of its requests. Public alternative: a time for
 * each request, which costs memory and time in a running server. Without it, no connection counts as in use.
 *
 * @param at the time of the event loop: see `loopTime`
 */
export function idleTimeOf (socket: Socket, at: number): number | undefined {
  const timer = valueBySymbol(socket, 'timeout') as WithStart | null | undefined
  return typeof timer?._idleStart === 'number' ? at - timer._idleStart : undefined
}

/** Returns the time of the event loop, from which Node's timers count, in milliseconds. See `idleTimeOf`. */
export function loopTime (): number {
  const timer = setTimeout(() => {}, 1)
  clearTimeout(timer)
  return (timer as unknown as WithStart)._idleStart ?? Number.NaN
}

interface WithStart {
  readonly _idleStart?: number
}

/**
 * Sets the length of the accept queue of a listening socket. The system call listen(2) may be called again with another
 * length, and Node's handle has a method for it.
 *
 * Why: Linux drops the SYN of a client if the queue is full, and the client repeats it a second later. The server no
 * longer listens then, so the connection is refused, not reset. Public alternative: none after `listen()`. Without it,
 * connections that arrive in the last milliseconds before the listener closes are reset.
 */
export function setQueueLength (server: NetServer, length: number): void {
  const { _handle } = server as unknown as { readonly _handle?: { listen?(backlog: number): number } | null }
  _handle?.listen?.(length)
}

/**
 * Returns whether this process created the listening socket of a server, from a port or an address. Node keeps what
 * `listen()` got in `_connectionKey`, as `4:127.0.0.1:3000`.
 *
 * Why: a socket from a file descriptor or a handle belongs to a supervisor, and other processes also accept on it. The
 * length of its queue must not change. Public alternative: none. Without it, no queue is shortened: see
 * `setQueueLength`.
 */
export function isBoundHere (server: NetServer): boolean {
  const { _connectionKey: key } = server as unknown as { readonly _connectionKey?: unknown }
  return typeof key === 'string' && /^[46]:/.test(key)
}

/**
 * Stops the checks of a server for slow headers. `http.Server.close()` does the same. Node keeps their timer under a
 * symbol.
 *
 * Why: the server has stopped listening without `http.Server.close()`, which would emit `close` a second time. Public
 * alternative: none. Without it (HTTP/2 never has it), the timer and the server stay in memory until the process ends.
 */
export function stopConnectionChecks (server: HttpServer): void {
  clearInterval(valueBySymbol(server, 'http.server.connectionsCheckingInterval') as NodeJS.Timeout | undefined)
}

/**
 * Returns whether a value is a server. In Node, every server is a `net.Server`. In Bun, a server of node:http emits the
 * same events, but is not a `net.Server`.
 *
 * Why: Fastify's `serverFactory` and its private list of servers may contain any value. Public alternative: none.
 * Without it, such a server is not drained, and lame-duck is skipped.
 */
export function isServer (value: unknown): value is HttpServer {
  if (value instanceof NetServer) return true
  const { listening, closeIdleConnections } = (value ?? {}) as Partial<HttpServer>
  return value instanceof EventEmitter && typeof listening === 'boolean' && typeof closeIdleConnections === 'function'
}

/**
 * Closes the listening socket of a server, and nothing else. `close()` of `net.Server` does that.
 *
 * Why: `close()` of `http.Server` also closes idle connections, and stops the checks for slow headers. Public
 * alternative: none. Without it (a server that is no `net.Server`), the server's own `close()` is called. The caller
 * has disabled `closeIdleConnections()` before.
 */
export function closeListener (server: HttpServer): void {
  if (server instanceof NetServer) NetServer.prototype.close.call(server)
  else (server as HttpServer).close()
}

/**
 * Returns the plain socket below a TLS socket. Node emits `connection` for the plain one and `secureConnection` for the
 * TLS one.
 *
 * Why: both are one connection. Public alternative: none. Without it, a TLS connection is counted twice while it is
 * open.
 */
export function plainSocketOf (socket: Socket): Socket | undefined {
  return (socket as Socket & { _parent?: Socket | null })._parent ?? undefined
}

/**
 * Marks a response as closed that Node never closes: a pipelined response that waited when the connection ended.
 * `res.closed` reads `_closed`.
 *
 * Why: streams and promises that wait for the end of the response read `res.closed`. Public alternative:
 * `res.destroy()`, which emits no `close` if the response has no socket. Without it, `close` is emitted and
 * `res.closed` stays false: a wait that begins later does not end by itself.
 */
export function markClosed (res: ServerResponse): void {
  res.destroyed = true
  Reflect.set(res, '_closed', true)
}

/**
 * Returns the servers that Fastify has started in addition to `app.server`. If the host is `localhost`, which is the
 * default, Fastify starts a second server for its second address (fastify#7043).
 *
 * Why: they must drain like the first one. Public alternative: none. Without it, a secondary server is found through
 * its first request, and its connections without a request are not drained.
 */
export function secondaryServersOf (app: FastifyInstance): readonly unknown[] {
  const servers = valueBySymbol(app, 'fastify.serverBindings')
  return Array.isArray(servers) ? servers : []
}

/**
 * Returns whether Fastify's own error handler answers the errors of a request: no context around its route has called
 * `setErrorHandler`, and the route has no `errorHandler`. Fastify keeps the handler in the context of the route, as an
 * object whose prototype is the handler of the enclosing context. The last one is Fastify's own.
 *
 * Why: Fastify's own error handler logs a line at level error for each 503. Public alternative: `app.errorHandler`,
 * which does not show the `errorHandler` of a route. Without it, the 503 goes through the error handler, and is logged.
 */
export function usesDefaultErrorHandler (request: FastifyRequest): boolean {
  const context = routeContextOf(request)
  return context?.errorHandler !== undefined && Object.getPrototypeOf(context.errorHandler) === Object.prototype
}

/** What Fastify keeps for a route: its config, its handler, and its hooks, with those of the instance before them. */
export interface RouteContext {
  readonly config: Record<PropertyKey, unknown>
  errorHandler?: { readonly func: NonNullable<RouteOptions['errorHandler']> }
  handler: RouteHandlerMethod
  [hooks: string]: any // any: a list or null
}

/**
 * Returns the context of the route of a request. Fastify keeps it under a symbol, and reads its handler and its hooks
 * for each request.
 *
 * Why: routes that were added before this plugin was loaded must be observed: see `http/earlier-routes.ts`. Public
 * alternative: an onRoute hook, for the routes that are added later. Without it, a handler of an earlier route that
 * sends no answer after its client has left counts until its timeout.
 */
export function routeContextOf (request: FastifyRequest): RouteContext | undefined {
  contextSymbol ??= symbolOf(request, 'fastify.context')
  return contextSymbol === undefined ? undefined : (request as unknown as Record<symbol, RouteContext>)[contextSymbol]
}

let contextSymbol: symbol | undefined

/** The hooks of one instance: a list for each name, and the method that adds one. */
export type Hooks = { readonly [name: string]: unknown[] | undefined } & {
  add(name: string, hook: unknown): void
}

/** Returns the hooks of an instance. Fastify keeps them under a symbol. See `hookListsOf`. */
export function hooksOf (app: FastifyInstance): Hooks | undefined {
  return valueBySymbol(app, 'fastify.hooks') as Hooks | undefined
}

/**
 * Returns the hooks of an instance, and those of each context inside it. Fastify keeps both under symbols.
 *
 * Why: the hooks that were added before this plugin was loaded must be replaced: see `replaceHooks` in
 * `replaced-methods.ts`. Public alternative: none, because Fastify does not show its hooks. Without it, the shutdown
 * does not wait for these hooks.
 */
export function hookListsOf (app: FastifyInstance): Hooks[] {
  const hooks = hooksOf(app)
  const children = valueBySymbol(app, 'fastify.children')
  const inner = Array.isArray(children) ? (children as FastifyInstance[]).flatMap(hookListsOf) : []
  return hooks === undefined ? inner : [hooks, ...inner]
}

/**
 * Returns the WebSocket of ws that uses a socket. ws adds the WebSocket to its socket under a symbol.
 *
 * Why: `close()` of the WebSocket sends the close frame after the messages that are queued. Public alternative:
 * `server.clients` of a WebSocketServer, to which this plugin has no access. Without it, the close frame is written to
 * the socket, between two frames: see `http/drains/websocket-frames.ts`. A `webSocketMessage` is not sent then.
 */
export function webSocketOf (socket: Socket): WebSocketLike | undefined {
  return valueBySymbol(socket, 'websocket') as WebSocketLike | undefined
}

/**
 * Returns whether a WebSocket of ws has sent the first fragments of a message and not the last.
 *
 * Why: a message that is sent now becomes a part of that message, and after a close frame the rest of it is lost.
 * Public alternative: none. Without it, a message that is sent in fragments during a shutdown may be incomplete.
 */
export function isInsideMessage (webSocket: WebSocketLike): boolean {
  return (webSocket as {
    readonly _sender?: { readonly _firstFragment?: unknown } | null
  })._sender?._firstFragment === false
}

function valueBySymbol (object: object, description: string): unknown {
  const symbol = symbolOf(object, description)
  return symbol === undefined ? undefined : (object as Record<symbol, unknown>)[symbol]
}

function symbolOf (object: object, description: string): symbol | undefined {
  return Object.getOwnPropertySymbols(object).find(each => each.description === description)
}

/**
 * Publishes a message to a diagnostics channel. A subscriber that throws or rejects does not affect the others. Node
 * keeps the subscribers in `_subscribers`.
 *
 * Why: `channel.publish()` turns the error of a subscriber into an uncaught exception, which ends the process or begins
 * a shutdown that fails. Public alternative: none, because the exception comes from Node. Without the list, `publish()`
 * is used.
 */
export function publish (channel: Channel, message: object, onSubscriberError: (error: unknown) => void): void {
  const { _subscribers: subscribers } = channel as Channel & { _subscribers?: unknown }
  if (!Array.isArray(subscribers)) return channel.publish(message)
  for (const subscriber of [...subscribers] as ((message: object, name: string | symbol) => unknown)[]) {
    try {
      const result = subscriber(message, channel.name)
      if (result instanceof Promise) result.catch(onSubscriberError)
    } catch (error) {
      onSubscriberError(error)
    }
  }
}

/**
 * Returns the destinations of a pino logger, also those of `pino.multistream()`. pino keeps the stream of a logger
 * under the symbol `pino.symbols.streamSym`. It is not in the global registry, and this package does not import pino.
 *
 * Why: a logger must not close the destination to which the app logs, and the last lines must be written before the
 * exit. Public alternative: none. Without it, a destination that is also a resource is closed before the last lines are
 * logged, and lines may be written out of order at the exit.
 */
export function destinationsOf (log: object): readonly object[] {
  for (let holder: object | null = log; holder !== null; holder = Object.getPrototypeOf(holder) as object | null) {
    const key = symbolOf(holder, 'pino.stream')
    if (key === undefined) continue
    const stream = (holder as Record<symbol, { readonly streams?: unknown } | undefined>)[key]
    if (stream === undefined) return []
    const { streams } = stream
    if (!Array.isArray(streams)) return [stream]
    return [stream, ...streams.map((each: { readonly stream: object }) => each.stream)]
  }
  return []
}

/**
 * Returns whether a destination of pino (sonic-boom) writes in the background, and emits `drain` afterwards.
 * During a write, `_writing` is true.
 *
 * Why: `flush()` of pino's default destination returns at once (its `minLength` is 0), while lines are still in the
 * thread pool. At the exit, the last lines are written directly, and so before these lines. Public alternative: none.
 * Without it, the last lines of a busy process may be in the wrong order.
 */
export function isWriting (destination: object): boolean {
  return (destination as { readonly _writing?: unknown })._writing === true
}
