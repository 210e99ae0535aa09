/**
 * Every method that is replaced on an object of Node, Fastify or ws. Other libraries replace the same methods, so a replacement
 * keeps the method that it finds, and a later replacement is left in place.
 */
import type { IncomingMessage, Server as HttpServer, ServerResponse } from 'node:http'
import type { Server as NetServer, Socket } from 'node:net'
import { isInsideMessage, type WebSocketLike } from './node-internals'

type Method = (...args: unknown[]) => unknown

/**
 * Replaces a method of one object until `restore` is called. Nothing happens if the object does not have the method or does not
 * allow the replacement.
 *
 * @param make gets the method that was there, and returns the new one
 * @returns restore: the method that was there answers again. If another library has replaced ours since, its replacement stays,
 *   and ours only forwards.
 */
export function replaceMethod<T extends object, K extends keyof T> (object: T, name: K, make: (original: T[K]) => T[K]): () => void {
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
 * Replaces a method of an object that lives as long as one request, by a function that all requests share: it needs no memory of
 * its own, and is not restored. If the object does not allow it, its own method stays.
 *
 * Used for `res.end`, `reply.send` and `reply.then` of a request whose client has left, to see its answer (public alternative: none,
 * because the response emits nothing any more; without it, the time limit for detached handlers ends the wait), and for
 * `res.destroy` of HTTP/2, to see which side ended the answer (public alternative: none; without it, the answer counts as aborted by
 * its client).
 */
export function overrideMethod<T extends object, K extends keyof T> (object: T, name: K, method: T[K]): void {
  Reflect.set(object, name, method)
}

/**
 * `server.closeIdleConnections` does nothing until it is restored.
 *
 * Why: it truncates answers that are ended but not flushed, and `http.Server.close()` calls it. Public alternative: none. Without
 * it, a slow reader may get a part of its answer if another plugin calls `server.close()` while requests drain.
 */
export function keepConnections (server: HttpServer): () => void {
  return replaceMethod(server, 'closeIdleConnections', () => () => {})
}

/**
 * `server.listen` fails with the error that `reason` resolves to, until it is restored. The error is emitted as an `error` event,
 * where Node emits those of its own.
 *
 * Why: a `listen()` that races with `close()` would leave a server that listens. Public alternative: none; Fastify itself has
 * this race. Without it, the server listens until the process ends.
 */
export function rejectListen (server: NetServer, reason: Promise<Error>): () => void {
  return replaceMethod(server, 'listen', () => function (this: NetServer) {
    void reason.then(error => server.emit('error', error))
    return this
  } as NetServer['listen'])
}

/**
 * `server.address` returns today's address until it is restored, also after the server has stopped listening.
 *
 * Why: Fastify reads the address again before its own `listen()` is over, and throws if there is none. Public alternative: none.
 * Without it, a signal during `listen()` ends in a TypeError inside of Fastify.
 */
export function keepAddress (server: NetServer): () => void {
  const address = server.address()
  return replaceMethod(server, 'address', () => () => address)
}

/**
 * `res.writeHead` with a status of 500 or more calls `answer` instead, once, and what the app writes after it is ignored.
 *
 * Why: a handler that gives up because its signal was aborted fails, and its client should get our 503. Public alternative: none for
 * a response that Fastify is writing. Without it, the client gets the 500.
 */
export function replaceFailure (res: ServerResponse, answer: (res: ServerResponse) => void): void {
  const restore = replaceMethod(res, 'writeHead', original => function (this: ServerResponse, status: number, ...rest: unknown[]) {
    restore()
    if (status < 500 || res.headersSent) return (original as Method).call(res, status, ...rest)
    answer(res)
    res.write = () => true
    res.end = () => res
    return res
  } as ServerResponse['writeHead'])
}

/**
 * `socket.destroySoon` asks `mayDestroy` first, as long as that returns false.
 *
 * Why: Node calls it after an answer with `Connection: close`. If the request's body is still arriving, the socket is reset and
 * the client loses the answer (RFC 9112, section 9.6). Public alternative: none. Without it, the sender of an upload may see
 * ECONNRESET in the place of the 503.
 */
export function delayDestroy (socket: Socket, mayDestroy: () => boolean): void {
  const restore = replaceMethod(socket, 'destroySoon', () => () => {
    if (!mayDestroy()) return
    restore()
    socket.destroySoon()
  })
}

/**
 * Destroys a socket when all that was written is flushed. The socket of `app.inject()` has no such method; it is left alone.
 */
export function destroyWhenFlushed (socket: Socket): void {
  if (!socket.destroyed) (socket as Partial<Socket>).destroySoon?.()
}

/**
 * `req.push` drops the rest of a request's body.
 *
 * Why: a pipe to a slow destination stops the socket, and then the end of the body is never seen. Public alternative: `req.unpipe()`,
 * which does not reach `for await`, undici or `data` listeners. Without it, the connection ends after its time limit.
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
 * `socket.write` calls `onWrite` first, until it is restored.
 *
 * Why: only the written bytes show where the frames of a WebSocket end, if it is not one of ws. Public alternative: none. Without it,
 * such a WebSocket gets no close frame; it is cut when its time is up.
 */
export function watchWrites (socket: Socket, onWrite: (chunk: Uint8Array) => void): () => void {
  return replaceMethod(socket, 'write', original => function (this: Socket, ...args: unknown[]) {
    const [chunk, encoding] = args as [string | Uint8Array, BufferEncoding | undefined]
    onWrite(typeof chunk === 'string' ? Buffer.from(chunk, typeof encoding === 'string' ? encoding : 'utf8') : chunk)
    return (original as Method).apply(this, args)
  } as Socket['write'])
}

/**
 * Calls `fn` when the last fragment of the message that a WebSocket is sending has been handed over: at once if there is none.
 * `webSocket.send` is replaced until then.
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
