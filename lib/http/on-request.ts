/** The onRequest hook: who may come in, and what the others are told. */
import type { FastifyReply, FastifyRequest, HookHandlerDoneFunction } from 'fastify'
import type { ShutdownState } from '../../types/index'
import { ShutdownRejectionError } from '../errors'
import type { Settings } from '../options'
import type { Lifecycle } from '../lifecycle/phases'
import { readOn, type Refusal } from './rejection'
import type { Traffic } from './traffic'

export interface GateOptions {
  readonly lifecycle: Lifecycle
  readonly state: ShutdownState
  readonly traffic: Traffic
  readonly refusal: Refusal
  readonly errorResponseBuilder: Settings['errorResponseBuilder']
  readonly onProblem: (message: string, error: unknown) => void
}

export function createGate ({ lifecycle, state, traffic: { table, servers }, refusal, errorResponseBuilder, onProblem }: GateOptions) {
  return function onRequest (request: FastifyRequest, reply: FastifyReply, next: HookHandlerDoneFunction): void {
    // An upgrade is no request: it has no answer that ends.
    if ((request.raw as { upgrade?: boolean }).upgrade === true) return next()
    // One that nobody has seen came in by a server that we do not know of yet, or through inject.
    if (!table.identify(reply)) servers.add((request.raw.socket as { server?: unknown } | undefined)?.server)
    if (lifecycle.phase === 'running' || lifecycle.phase === 'lame-duck') return next()
    if (request.routeOptions.config?.shutdown?.exempt === true) {
      reply.raw.removeHeader('retry-after')
      // HTTP/1.0 knows no interim answers: it would take this one for the answer (RFC 9110, section 10.1.1).
      if (request.raw.headers.expect !== undefined && request.raw.httpVersion !== '1.0') reply.raw.writeContinue()
      return next()
    }
    refuse(request, reply, next)
  }

  function refuse (request: FastifyRequest, reply: FastifyReply, next: HookHandlerDoneFunction): void {
    table.reject(reply.raw)
    readOn(request.raw)
    const retryAfter = refusal.retryAfter()
    reply.header('retry-after', retryAfter)
    if (errorResponseBuilder === undefined) return next(new ShutdownRejectionError(state, retryAfter))
    // An async function may be given: a promise of a body is none, and one that rejects would be an unhandled rejection.
    new Promise(resolve => { resolve(errorResponseBuilder(request, state)) }).then(payload => { reply.code(503).send(payload) }).catch((thrown: unknown) => {
      onProblem("'errorResponseBuilder' failed, the default is sent instead", thrown)
      next(new ShutdownRejectionError(state, retryAfter))
    })
  }
}
