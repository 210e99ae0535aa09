/**
 * The methods that are replaced on objects of Node, Fastify and ws. Other libraries replace the same methods. So a
 * replacement calls the method that it has replaced, and a later replacement stays in place.
 *
 * The methods of responses are in `replaced-response-methods.ts`. Public methods of the app, of an adopted client and
 * of a cluster's worker are replaced in the files that use them, with `replaceMethod`.
 */
import type { IncomingMessage, Server as HttpServer } from 'node:http'
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
 * Used for:
 * - `res.end`, `res.destroy`, `reply.send` and `reply.then` of a request whose client has left, to detect its answer.
 *   Public alternative: none, because the response no longer emits events. Without it, the timeout for detached
 *   handlers ends the wait.
 * - `res.destroy` of HTTP/2, to detect which side ended the answer. Public alternative: none. Without it, the answer
 *   counts as aborted by its client.
 * - `dropBody`, and `ignoreWrites` of `replaced-response-methods.ts`.
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
 * Calls `socket.destroySoon`, which destroys a socket when all written data is flushed. Node does not document it.
 *
 * Why: the client gets the whole answer, and the connection ends also if the client does not end its side. Public
 * alternative: `socket.end()`, and `destroy()` at its `finish` event. Without it (the socket of `app.inject()` does not
 * have it), the socket stays open until the rest of the traffic is over.
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
 * Replaces `webSocket.send`: it calls `onSend` first. If `onSend` returns true, the socket holds the message back for a
 * moment. The callback of the message is then called at once, because a library may send its next message only after
 * it.
 *
 * Why: the close frame is sent directly after an answer, so that the client reads both at once. Public alternative:
 * none, because ws emits no event for a message that it sends. Without it, the close frame is sent when the time for an
 * answer is up.
 */
export function watchSends (webSocket: WebSocketLike, onSend: () => boolean): void {
  replaceMethod(webSocket, 'send', original => (...args: unknown[]) => {
    if (onSend() && typeof args.at(-1) === 'function') process.nextTick(args.pop() as () => void)
    ;(original as Method).apply(webSocket, args)
  })
}

/**
 * Replaces `webSocket.send` until the last fragment of the current message is sent, and calls `fn` then. If no message
 * is being sent, it calls `fn` at once.
 *
 * Why: a close frame between two fragments loses the rest of the message. Public alternative: none, because ws emits no
 * event for a message that it sends. Without it, such a WebSocket gets no close frame; it is cut when its time is up.
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
