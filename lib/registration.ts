/** The rules of registration: once for each server, at its root, and before all plugins with onClose hooks. */
import type { FastifyInstance } from 'fastify'
import { ShutdownRegistrationError } from './errors'
import { earlierHooksOf, loadingPlugins } from './earlier-hooks'

/** Checks that the plugin is registered once, and at the root. @throws FST_ERR_SHUTDOWN_REGISTRATION */
export function checkRegistration (app: FastifyInstance): void {
  if (app.hasDecorator('shutdownState')) {
    throw new ShutdownRegistrationError(
      'fastify-shutdown is already registered: register it once for each server, at its root'
    )
  }
  // Fastify creates an encapsulated context with its parent as the prototype. The root is a plain object.
  if (Object.getPrototypeOf(app) !== Object.prototype) {
    throw new ShutdownRegistrationError(
      'fastify-shutdown must be registered at the root of the server, got an encapsulated context: ' +
      'only the routes of that context would be drained'
    )
  }
}

/**
 * Returns a warning if plugins with an onClose hook were registered earlier: their hooks run after ours, without a
 * deadline. There is none about a plugin without such a hook, and none about a plugin that registers this one.
 */
export function warningsOf (app: FastifyInstance): string[] {
  const loading = loadingPlugins(app)
  const earlier = earlierHooksOf(app).filter(name => !loading.includes(name))
  if (earlier.length === 0) return []
  return [
    `registered before fastify-shutdown: ${earlier.join(', ')}. ` +
    'Their onClose hooks run last, without a deadline. Register fastify-shutdown before them'
  ]
}
