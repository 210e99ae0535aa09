/**
 * Every method that is replaced on an object of Node, Fastify or ws. Other libraries replace the same methods. So a
 * replacement calls the method that it has replaced, and a later replacement stays in place.
 */
import type { IncomingMessage, Server as HttpServer, ServerResponse } from 'node:http'
import type { Server as NetServer, Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { hookListsOf, isInsideMessage, type WebSocketLike } from './node-internals'

type Method = (...args: unknown[]) => unknown

/**
 * Replaces a method of one object until `restore` is called. Nothing happens if the object does not have the method or
 * does not allow the replacement.
 *
 * @param make gets the original method, and returns the new one
 * @returns restore, which puts the original method back. If another library has replaced our method since, its
 *   replacement stays, and our method only forwards.
 */
export function replaceMethod<T extends object, K extends keyof T> (
  object: T, name: K, make: (original: T[K]) => T[K]
): () => void {
  const original = object[name]
  if (typeof original !== 'function') return () => {}
  const own = Object.getOwnPropertyDescriptor(object, name)
  let current = make(original) as Method
  const method = function (this: T, ...args: unknown[]): unknown {
    return current.apply(this, args)
  }
  if (!Reflect.set(object, name, method)) return () => {}
  return () => {
    current = original as unknown as Method
    if (object[name] as unknown !== method) return
    if (own === undefined) delete (object as Partial<T>)[name]
    else Object.defineProperty(object, name, own)
  }
}

/**
 * Replaces a method of an object that exists for one request. The new method is shared by all requests, which saves
 * memory, and it is not restored. If the object does not allow the replacement, its own method stays.
 *
 * Used for `res.end`, `reply.send` and `reply.then` of a request whose client has left, to detect its answer (public
 * alternative: none, because the response no longer emits events; without it, the timeout for detached handlers ends
 * the wait), and for `res.destroy` of HTTP/2, to detect which side ended the answer (public alternative: none; without
 * it, the answer counts as aborted by its client).
 */
export function overrideMethod<T extends object, K extends keyof T> (object: T, name: K, method: T[K]): void {
  Reflect.set(object, name, method)
}

/**
 * Replaces the hooks of these names that were added to an instance or to a context inside it before, and those that are
 * added to them from now on.
 *
 * Why: if `register()` of this plugin is not awaited, the app has already called `addHook` when the plugin is loaded.
 * Public alternative: `addHook`, for the hooks that are added later. Without it, the shutdown does not wait for the
 * hooks that were added before.
 */
export function replaceHooks (
  app: FastifyInstance, names: readonly string[], wrap: (name: string, hook: unknown) => unknown
): void {
  for (const hooks of hookListsOf(app)) {
    for (const name of names) {
      const added = hooks[name]
      if (Array.isArray(added)) added.splice(0, added.length, ...added.map(hook => wrap(name, hook)))
    }
    replaceMethod(hooks, 'add', original => (name, hook) => {
      original.call(hooks, name, names.includes(name) ? wrap(name, hook) : hook)
    })
  }
}

/**
 * Replaces `server.closeIdleConnections` by a method that does nothing, until it is restored.
 *
 * Why: it truncates answers that are ended but not flushed, and `http.Server.close()` calls it. Public alternative:
 * none. Without it, a slow client may get only a part of its answer if another plugin calls `server.close()` while
 * requests drain.
 */
export function keepConnections (server: HttpServer): () => void {
  return replaceMethod(server, 'closeIdleConnections', () => () => {})
}

/**
 * Calls `fn` after each call of `server.close`, until it is restored.
 *
 * Why: @fastify/restartable decides in its `close` whether its server closes. Public alternative: the event `close`,
 * which comes only after the last connection has ended. Without it, a connection that sends nothing keeps such a server
 * open.
 */
export function afterClose (server: HttpServer, fn: () => void): () => void {
  return replaceMethod(server, 'close', original => function (this: HttpServer, ...args: unknown[]) {
    const result = (original as Method).apply(this, args)
    fn()
    return result
  } as HttpServer['close'])
}

/**
 * Replaces `server.listen` until it is restored: it fails with the error that `reason` resolves to. The error is
 * emitted as an `error` event, as by Node itself.
 *
 * Why: if `listen()` is called during `close()`, the server would listen again. Public alternative: none; Fastify
 * itself has this race. Without it, the server listens until the process ends.
 */
export function failListen (server: NetServer, reason: Promise<Error>): () => void {
  return replaceMethod(server, 'listen', () => function (this: NetServer) {
    void reason.then(error => server.emit('error', error))
    return this
  } as NetServer['listen'])
}

/**
 * Replaces `server.address` until it is restored: it returns the current address, also after the server has stopped
 * listening.
 *
 * Why: Fastify reads the address again before its own `listen()` is over, and throws if there is none. Public
 * alternative: none. Without it, a signal during `listen()` causes a TypeError in Fastify.
 */
export function keepAddress (server: NetServer): () => void {
  const address = server.address()
  return replaceMethod(server, 'address', () => () => address)
}

/**
 * Replaces `res.writeHead` once: if the status is 500 or more, it calls `answer`, which writes another answer and calls
 * `ignoreWrites`.
 *
 * Why: a handler fails if its signal aborts, and its client should get our 503 and not the error. Public alternative:
 * none for a response that Fastify writes. Without it, the client gets the 500.
 */
export function replaceFailure (res: ServerResponse, answer: (res: ServerResponse) => void): void {
  const restore = replaceMethod(res, 'writeHead', original => function (
    this: ServerResponse, status: number, ...rest: unknown[]
  ) {
    restore()
    if (status < 500 || res.headersSent) return (original as Method).call(res, status, ...rest)
    answer(res)
    return res
  } as ServerResponse['writeHead'])
}

/** The methods of a response that throw, or emit an error, after the response has ended. */
const writeMethods = [
  'writeHead', 'setHeader', 'setHeaders', 'appendHeader', 'removeHeader', 'flushHeaders', 'addTrailers',
  'writeContinue', 'writeProcessing', 'end'
] as const satisfies readonly (keyof ServerResponse)[]

/**
 * Replaces the methods of a response that write: they do nothing.
 *
 * Why: the code that was about to answer a request does not notice that the request has been cut. Its `writeHead`
 * throws then, and its `write` emits an error, in a timer of the app or of a library (engine.io). Public alternative:
 * none. Without it, such code causes an uncaught exception during the shutdown.
 */
export function ignoreWrites (res: ServerResponse): void {
  for (const name of writeMethods) overrideMethod(res, name, (() => res) as never)
  overrideMethod(res, 'write', () => true)
}

/**
 * Replaces `res.writeHead` once: if `isLast` then returns true, the answer has `Connection: close` and no `Keep-Alive`,
 * whatever the app has set.
 *
 * Why: a route or a proxied upstream may set `Connection: keep-alive`, and its client would then use a connection that
 * closes (RFC 9112, section 9.6). Public alternative: none. `res.shouldKeepAlive` only matters if the app has set no
 * `Connection` header. Without it, such a client is reset at its next request.
 */
export function closeInHead (res: ServerResponse, isLast: () => boolean): void {
  const restore = replaceMethod(res, 'writeHead', original => function (this: ServerResponse, ...args: unknown[]) {
    restore()
    if (isLast() && !res.headersSent) {
      const given = args.findIndex(arg => typeof arg === 'object' && arg !== null)
      if (given !== -1) args[given] = withoutConnection(args[given] as object)
      res.removeHeader('keep-alive')
      res.setHeader('Connection', 'close')
    }
    return (original as Method).apply(res, args)
  } as ServerResponse['writeHead'])
}

/**
 * Returns headers in the form in which `writeHead` got them, without `Connection` and `Keep-Alive`. The forms are an
 * object, a list of names and values in turn, and a list of pairs.
 */
function withoutConnection (headers: object): object {
  const isConnection = (name: unknown): boolean => /^(?:connection|keep-alive)$/i.test(String(name))
  if (!Array.isArray(headers)) return Object.fromEntries(Object.entries(headers).filter(([name]) => !isConnection(name)))
  // Node accepts no pairs if other headers have been set with `setHeader`.
  const flat = headers.some(Array.isArray) ? headers.flat() : headers
  return flat.filter((_each, index) => !isConnection(flat[index - index % 2]))
}

/**
 * Replaces `res.writeHead` once: if the status is 503 and the header is missing, it adds the header.
 *
 * Why: each 503 of a shutdown has a Retry-After header, also a 503 of a handler, of another plugin, or of Fastify
 * (`handlerTimeout`). Public alternative: an `onSend` hook, which costs time on each request of a running server, and
 * does not run for all of them. Without it, such a 503 has no Retry-After header.
 *
 * @param value creates the value of the header
 */
export function addHeaderTo503 (res: ServerResponse, name: string, value: () => number): void {
  const restore = replaceMethod(res, 'writeHead', original => function (
    this: ServerResponse, status: number, ...rest: unknown[]
  ) {
    restore()
    if (status === 503 && !hasHeader(res, name, rest.at(-1))) res.setHeader(name, value())
    return (original as Method).call(res, status, ...rest)
  } as ServerResponse['writeHead'])
}

/** Returns whether a response has a header, or gets it from an argument of `writeHead`: an object or an array. */
function hasHeader (res: ServerResponse, name: string, headers: unknown): boolean {
  if (res.hasHeader(name)) return true
  if (typeof headers !== 'object' || headers === null) return false
  // An array has names and values in turn, or pairs of them.
  const names = Array.isArray(headers) ? headers.flat().filter((_each, index) => index % 2 === 0) : Object.keys(headers)
  return names.some(each => String(each).toLowerCase() === name)
}

/**
 * Replaces `socket.destroySoon`: it does nothing until `mayDestroy` returns true.
 *
 * Why: Node calls it after an answer with `Connection: close`. If the request's body is still arriving, the socket is
 * reset and the client loses the answer (RFC 9112, section 9.6). Public alternative: none. Without it, the sender of an
 * upload may see ECONNRESET instead of the 503.
 */
export function delayDestroy (socket: Socket, mayDestroy: () => boolean): void {
  const restore = replaceMethod(socket, 'destroySoon', () => () => {
    if (!mayDestroy()) return
    restore()
    socket.destroySoon()
  })
}

/**
 * Destroys a socket when all written data is flushed. The socket of `app.inject()` has no such method and stays open.
 */
export function destroyWhenFlushed (socket: Socket): void {
  if (!socket.destroyed) (socket as Partial<Socket>).destroySoon?.()
}

/**
 * Replaces `req.push`: the rest of the request's body is dropped.
 *
 * Why: a pipe to a slow destination stops the socket, and the end of the body never arrives. Public alternative:
 * `req.unpipe()`, which has no effect on `for await`, undici and `data` listeners. Without it, the connection ends
 * after its timeout.
 *
 * @param onEnd called at the end of the body
 */
export function dropBody (req: IncomingMessage, onEnd: () => void): void {
  overrideMethod(req, 'push', chunk => {
    if (chunk === null) onEnd()
    return true
  })
}

/**
 * Replaces `socket.write` until it is restored: it calls `onWrite` first.
 *
 * Why: if a WebSocket is not of ws, only the written bytes show the ends of its frames. Public alternative: none.
 * Without it, such a WebSocket gets no close frame; it is cut when its time is up.
 */
export function watchWrites (socket: Socket, onWrite: (chunk: Uint8Array) => void): () => void {
  return replaceMethod(socket, 'write', original => function (this: Socket, ...args: unknown[]) {
    const [chunk, encoding] = args as [string | Uint8Array, BufferEncoding | undefined]
    onWrite(typeof chunk === 'string' ? Buffer.from(chunk, typeof encoding === 'string' ? encoding : 'utf8') : chunk)
    return (original as Method).apply(this, args)
  } as Socket['write'])
}

/**
 * Replaces `webSocket.send`: it calls `onSend` first. If `onSend` returns true, the message is held back for a moment:
 * the callback is then called at once, so that a library that waits for it sends its next message.
 *
 * Why: a WebSocket is closed right behind an answer, and the client reads both at once. Public alternative: none,
 * because ws emits no event for a message that it sends. Without it, an answer is waited for until its time is up.
 */
export function watchSends (webSocket: WebSocketLike, onSend: () => boolean): void {
  replaceMethod(webSocket, 'send', original => (...args: unknown[]) => {
    if (onSend() && typeof args.at(-1) === 'function') process.nextTick(args.pop() as () => void)
    ;(original as Method).apply(webSocket, args)
  })
}

/**
 * Calls `fn` after the last fragment of the current message of a WebSocket, or at once if it sends none. Replaces
 * `webSocket.send` until then.
 */
export function afterMessage (webSocket: WebSocketLike, fn: () => void): void {
  if (!isInsideMessage(webSocket)) return fn()
  const restore = replaceMethod(webSocket, 'send', original => (...args: unknown[]) => {
    (original as Method).apply(webSocket, args)
    if (isInsideMessage(webSocket)) return
    restore()
    fn()
  })
}
