/** The `onRequest` hook: serves a request, or rejects it with 503 and Retry-After while the server drains. */
import type { FastifyReply, FastifyRequest, HookHandlerDoneFunction } from 'fastify'
import type { ShutdownState } from '../../types/index'
import { ShutdownRejectionError } from '../errors'
import type { Settings } from '../options'
import type { Events } from '../lifecycle/events'
import type { Lifecycle } from '../lifecycle/phases'
import type { OnProblem } from '../lifecycle/problems'
import { usesDefaultErrorHandler } from '../util/node-internals'
import { logAsInfo } from '../util/replaced-response-methods'
import { readHttp2Body, rejectionBody, rejectionType, type Rejection } from './rejection'
import { toPayload } from './rejection-payload'
import type { Traffic } from './traffic'

/** Options of the hook. */
export interface OnRequestOptions {
  readonly lifecycle: Lifecycle
  readonly state: ShutdownState
  readonly traffic: Traffic
  readonly rejection: Rejection
  readonly events: Pick<Events, 'emit' | 'isWanted'>
  readonly errorResponseBuilder: Settings['errorResponseBuilder']
  readonly onProblem: OnProblem
}

/**
 * Creates the hook. While the server runs, it costs one property and one look-up in the table of requests in flight.
 */
export function createOnRequest ({
  lifecycle, state, traffic: { inFlight, servers }, rejection, events, errorResponseBuilder, onProblem
}: OnRequestOptions) {
  return function onRequest (request: FastifyRequest, reply: FastifyReply, next: HookHandlerDoneFunction): void {
    // An upgrade is not in the table, because its response never ends.
    if ((request.raw as { upgrade?: boolean }).upgrade === true) return next()
    // A request that is not in the table comes from a server that is not attached yet, or from inject.
    if (!inFlight.identify(reply)) servers.add((request.raw.socket as { server?: unknown } | undefined)?.server)
    if (lifecycle.phase === 'running' || lifecycle.phase === 'lame-duck' || !inFlight.isLate(reply.raw)) return next()
    if (request.routeOptions.config?.shutdown?.exempt === true) {
      reply.raw.removeHeader('retry-after')
      // HTTP/1.0 has no interim responses. Its client would read this one as the final response (RFC 9110, section
      // 10.1.1).
      if (request.raw.headers.expect !== undefined && request.raw.httpVersion !== '1.0') reply.raw.writeContinue()
      return next()
    }
    rejectRequest(request, reply, next)
  }

  function rejectRequest (request: FastifyRequest, reply: FastifyReply, next: HookHandlerDoneFunction): void {
    inFlight.reject(reply.raw)
    if (events.isWanted('request-rejected')) {
      events.emit({ type: 'request-rejected', method: request.method, route: request.routeOptions.url ?? '' })
    }
    readHttp2Body(request.raw)
    const retryAfter = rejection.retryAfter()
    reply.header('retry-after', retryAfter)
    if (errorResponseBuilder === undefined) return sendDefault(request, reply, retryAfter, next)
    // The function may be async. An unhandled rejection would end the process.
    new Promise(resolve => { resolve(errorResponseBuilder(request, state)) }).then(
      value => toPayload(value, reply.raw)
    ).then(({ payload, type }) => {
      if (reply.sent) return
      if (payload === undefined) return sendDefault(request, reply, retryAfter, next)
      if (type !== null) reply.type(type)
      reply.code(503).send(payload)
    }).catch((thrown: unknown) => {
      if (reply.raw.destroyed) return // The client has left, or has got the plain 503.
      onProblem("'errorResponseBuilder' failed: the default is sent", thrown)
      if (!reply.sent) sendDefault(request, reply, retryAfter, next)
    })
  }

  /**
   * Sends the default body. An error handler of the app gets the error. Fastify's own error handler would log a line at
   * level error for each request, so the body that it would send is sent without it. The `onSend` hooks run in both
   * cases.
   */
  function sendDefault (
    request: FastifyRequest, reply: FastifyReply, retryAfter: number, next: HookHandlerDoneFunction
  ): void {
    if (!usesDefaultErrorHandler(request)) {
      const error = new ShutdownRejectionError(state, retryAfter)
      logAsInfo(reply, error)
      return next(error)
    }
    // An earlier hook may have set a serializer for its own answer. This body is already text.
    reply.code(503).type(rejectionType).serializer(unchanged).send(rejectionBody)
  }
}

const unchanged = (text: string): string => text
