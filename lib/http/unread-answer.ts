/**
 * The answer of a detached handler, which no client reads. The response emits no events after its client has left, so
 * the methods that end the answer are replaced.
 */
import type { ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import { overrideMethod } from '../util/replaced-methods'
import { check, detachedOf, onAnswer, type Detached, type Source } from './detached-handler'
import { handlerResultOf } from './handler-result'

/** Detects the answer that Fastify sends after the client has left. */
export function watchAnswer (detached: Detached): void {
  const { exchange: { res }, reply } = detached
  // A stream that was the answer is unpiped while the HTTP/1 response emits `close`; another one may be sent later.
  res.once('unpipe', onPipe)
  res.once('pipe', onPipe)
  overrideMethod(res, 'end', endUnread)
  overrideMethod(res, 'destroy', destroyUnread)
  overrideMethod(reply, 'send', sendUnread as typeof reply.send)
  overrideMethod(reply, 'then', awaitUnread)
}

function onPipe (this: ServerResponse, source: Source): void {
  const detached = detachedOf(this.req)!
  detached.source = source
  onAnswer(detached)
}

const endUnread = function (this: ServerResponse, ...args: unknown[]): ServerResponse {
  const detached = detachedOf(this.req)!
  onAnswer(detached)
  return (detached.end as (...args: unknown[]) => ServerResponse).apply(this, args)
} as ServerResponse['end']

const destroyUnread = function (this: ServerResponse, error?: Error): ServerResponse {
  const detached = detachedOf(this.req)!
  onAnswer(detached)
  return detached.destroy.call(this, error)
} as ServerResponse['destroy']

/** Detects a web stream, because Fastify then neither ends the response nor pipes into it. */
function sendUnread (this: FastifyReply, payload: unknown): FastifyReply {
  const detached = detachedOf(this.request.raw)!
  if (payload instanceof ReadableStream || payload instanceof Response) onAnswer(detached)
  return detached.send.call(this, payload)
}

/** Detects `return reply` in an async handler: its promise now waits for an answer that may never end (HTTP/2). */
function awaitUnread (this: FastifyReply, ...args: Parameters<FastifyReply['then']>): ReturnType<FastifyReply['then']> {
  const detached = detachedOf(this.request.raw)!
  const result = handlerResultOf(this.request.raw)
  if (result !== undefined && result !== 'callback') detached.running.delete(result)
  check(detached)
  return detached.then.apply(this, args)
}
