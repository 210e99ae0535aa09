/** Where the plugin is registered: once for each server, at its root, and before the plugins that it is to wait for. */
import type { FastifyInstance } from 'fastify'
import { ShutdownRegistrationError } from './errors'
import { registeredPluginsOf } from './util/node-internals'

/** @throws FST_ERR_SHUTDOWN_REGISTRATION for a second registration, and for one in an encapsulated context */
export function checkRegistration (app: FastifyInstance): void {
  if (app.hasDecorator('shutdownState')) throw new ShutdownRegistrationError('fastify-shutdown is already registered: one for each server, at its root')
  // Fastify makes a child with its parent as prototype; the root is a plain object.
  if (Object.getPrototypeOf(app) !== Object.prototype) {
    throw new ShutdownRegistrationError('fastify-shutdown must be registered at the root of the server, got an encapsulated context: its routes would be the only ones drained')
  }
}

/** @returns a warning for the plugins that were registered before: their onClose hooks run after ours, without a deadline */
export function warningsOf (app: FastifyInstance): string[] {
  const earlier = registeredPluginsOf(app).filter(name => name !== 'fastify-shutdown')
  if (earlier.length === 0) return []
  return [`registered before fastify-shutdown: ${earlier.join(', ')}; their onClose hooks run after everything else, without a deadline. Register fastify-shutdown first`]
}
