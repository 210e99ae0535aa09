/** The requests that a plain server gets while it drains. An exempt request is served, any other gets the 503. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { ShutdownState } from '../../types/index'
import type { Events } from '../lifecycle/events'
import type { OnProblem } from '../lifecycle/problems'
import type { InFlightTable } from './in-flight'
import { readHttp2Body, rejectionType, type Rejection } from './rejection'
import { toPayload, type RejectionPayload } from './rejection-payload'
import type { HostServers } from './servers'

/** Options of the handler. */
export interface PlainRequestsOptions {
  readonly isExempt: HostServers['isExempt']
  readonly errorResponseBuilder: ((request: IncomingMessage, state: ShutdownState) => unknown) | undefined
  readonly events: Pick<Events, 'emit' | 'isWanted'>
  readonly onProblem: OnProblem
}

/** Creates a function that returns the handler of one server: see `HostServers`. */
export function createPlainHandler (
  server: Server, { isExempt, errorResponseBuilder, events, onProblem }: PlainRequestsOptions
): HostServers['handler'] {
  return (inFlight, rejection) => {
    // The caller removes these listeners from the server after this call.
    const listeners = server.rawListeners('request')
    return (req, res) => {
      if (isExempt !== null && isExempt(req)) serve(req, res)
      else reject(req, res, inFlight, rejection)
    }

    function serve (req: IncomingMessage, res: ServerResponse): void {
      // Node does not send 100 Continue while draining, because the plugin handles `Expect` headers itself.
      if (req.headers.expect !== undefined && req.httpVersion !== '1.0') res.writeContinue()
      for (const listener of listeners) Reflect.apply(listener, server, [req, res])
    }
  }

  function reject (req: IncomingMessage, res: ServerResponse, inFlight: InFlightTable, rejection: Rejection): void {
    inFlight.reject(res)
    if (events.isWanted('request-rejected')) {
      events.emit({ type: 'request-rejected', method: req.method ?? '', route: '' })
    }
    if (errorResponseBuilder === undefined) return rejection.rejectRequest(res)
    // The function may be async. An unhandled rejection would end the process.
    new Promise(resolve => { resolve(errorResponseBuilder(req, rejection.state)) }).then(
      value => toPayload(value, res)
    ).then(given => {
      if (isOver(res)) return
      if (given.payload === undefined) return rejection.rejectRequest(res)
      readHttp2Body(req)
      write(res, given, rejection.retryAfter())
    }).catch((thrown: unknown) => {
      if (res.destroyed) return // The client has left, or has got the plain 503.
      onProblem("'errorResponseBuilder' failed: the default is sent", thrown)
      if (!isOver(res)) rejection.rejectRequest(res)
    })
  }
}

function isOver (res: ServerResponse): boolean {
  return res.headersSent || res.writableEnded || res.destroyed
}

/** Writes a 503. The content types are those that Fastify chooses. */
function write (res: ServerResponse, { payload, type }: RejectionPayload, retryAfter: number): void {
  const [body, standard] = typeof payload === 'string'
    ? [payload, 'text/plain; charset=utf-8']
    : payload instanceof Uint8Array
      ? [payload, 'application/octet-stream']
      : [JSON.stringify(payload), rejectionType]
  const headers: Record<string, string | number> = {
    'content-type': type ?? standard,
    'content-length': Buffer.byteLength(body),
    'retry-after': retryAfter
  }
  res.writeHead(503, headers)
  res.end(body)
}
