/** `fastify-shutdown/http`: the host of the core for a plain server of node:http, node:https or node:http2. */
import type { IncomingMessage, Server } from 'node:http'
import type { Http2SecureServer, Http2Server, Http2ServerRequest } from 'node:http2'
import type { Server as HttpsServer } from 'node:https'
import { Server as NetServer } from 'node:net'
import type { FastifyBaseLogger } from 'fastify'
import type { Shutdown, ShutdownState } from '../types/index'
import { resolveAttachOptions, type AttachOptions } from './attach-options'
import { createBase, createCore } from './core'
import { ShutdownLateError, ShutdownOptionError, ShutdownRegistrationError, received } from './errors'
import { createExempt } from './http/plain-exempt'
import { answerProbes } from './http/plain-probes'
import { createPlainHandler } from './http/plain-requests'
import { createServerClose } from './lifecycle/server-close'
import { kAttached, kRelease } from './symbols'
import { replaceMethod } from './util/replaced-methods'

export { teardown } from './resources/teardown'
export { sse } from './util/sse'
export type { AttachOptions } from './attach-options'
export type { Exempt } from './http/plain-exempt'
export type { LogMethod, ShutdownLog } from './process/stdout-log'

/** A server of Node. */
export type PlainServer = Server | HttpsServer | Http2Server | Http2SecureServer

/** The methods of `fastify.shutdown`, without `cut`, because a plain request has no id. */
export type AttachedShutdown = Omit<Shutdown, 'cut'> & {
  /** Returns a signal that aborts right before this request is cut, or when its client has left. */
  signalOf(request: IncomingMessage | Http2ServerRequest): AbortSignal
}

/** What `attach` returns. */
export interface Attached {
  /** The methods of the shutdown. */
  readonly shutdown: AttachedShutdown
  /** The state of the shutdown. Live and read-only. */
  readonly shutdownState: ShutdownState
}

/**
 * Adds the shutdown to a server of Node, also if Express or another framework handles its requests. Call it before
 * `server.listen()`. From then on, `server.close()` begins a shutdown.
 *
 * @throws FST_ERR_SHUTDOWN_OPTION, FST_ERR_SHUTDOWN_BUDGET, FST_ERR_SHUTDOWN_RESOURCE, FST_ERR_SHUTDOWN_CLIENT,
 *   FST_ERR_SHUTDOWN_REGISTRATION if the server already listens or already has a shutdown. `server.listen()` throws if
 *   the resources cannot be ordered
 * @example
 * const server = createServer(app)
 * const { shutdown, shutdownState } = attach(server, { resources: { postgres: { client: pool } } })
 * server.listen(3000)
 */
export function attach (server: PlainServer, options: AttachOptions = {}): Attached {
  const main = checkServer(server)
  const { settings, exempt, errorResponseBuilder, log } = resolveAttachOptions(options)
  const base = createBase()
  const { lifecycle, events, onProblem } = base
  const close = createServerClose(main)
  const isExempt = createExempt(exempt, onProblem)
  const core = markAttached(main, () => createCore(settings, base, {
    // The exporters use only the methods that `ShutdownLog` has.
    log: log as FastifyBaseLogger,
    servers: {
      main,
      all: () => [main],
      handler: createPlainHandler(main, { isExempt, errorResponseBuilder, events, onProblem }),
      isExempt
    },
    close,
    hooks: close.hooks
  }))
  const { state, traffic, probes } = core
  answerProbes(main, probes, traffic.inFlight)
  replaceMethod(main, 'listen', original => function (this: Server, ...args: unknown[]) {
    if (lifecycle.reason !== null) throw new ShutdownLateError('listen()', lifecycle.phase)
    if (!lifecycle.booted) {
      core.seal()
      core.boot(settings.warnings)
    }
    return Reflect.apply(original, this, args)
  } as Server['listen'])
  main.on('listening', core.listening)
  close.intercept()

  const { cut, ...methods } = core.methods
  return {
    shutdown: { ...methods, signalOf: request => traffic.inFlight.signalOf({ raw: request as IncomingMessage }) },
    shutdownState: state
  }
}

/** Marks the server while `create` uses it and from then on. If `create` throws, the caller may try again. */
function markAttached<T> (server: Server, create: () => T): T {
  Object.defineProperty(server, kAttached, { value: true, configurable: true })
  try {
    return create()
  } catch (error) {
    Reflect.deleteProperty(server, kAttached)
    throw error
  }
}

/** Returns the server, typed as one of node:http. Servers of node:https and node:http2 have the same methods. */
function checkServer (given: PlainServer): Server {
  const server = given as Server & { [kAttached]?: boolean, [kRelease]?: unknown }
  if (!(server instanceof NetServer) || typeof server.setTimeout !== 'function') {
    throw new ShutdownOptionError(
      `Expected a server of node:http, node:https or node:http2, such as createServer(app), got ${received(given)}`
    )
  }
  if (server[kAttached] === true || server[kRelease] !== undefined) {
    throw new ShutdownRegistrationError('The server has a shutdown already: call attach once for each server')
  }
  if (server.listening) {
    throw new ShutdownRegistrationError(
      'The server listens already, and its first connections would not be drained: call attach before server.listen()'
    )
  }
  return server
}
