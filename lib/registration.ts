/**
 * The rules of registration: once for each server, in any context. The plugin always works for the whole server.
 */
import type { FastifyInstance } from 'fastify'
import { ShutdownRegistrationError } from './errors'
import { earlierHooksOf } from './earlier-hooks'
import { loadingPlugins } from './util/plugin-tree'

/** The contexts of Fastify around a registration. */
export interface Contexts {
  /** The server itself. */
  readonly root: FastifyInstance
  /** The contexts from the registration up to the root, without the root. */
  readonly enclosing: readonly FastifyInstance[]
}

/**
 * Finds the root of the server. Fastify creates an encapsulated context with its parent as the prototype; the root is a
 * plain object.
 *
 * @throws FST_ERR_SHUTDOWN_REGISTRATION if the plugin is already registered
 */
export function findRoot (app: FastifyInstance): Contexts {
  const enclosing: FastifyInstance[] = []
  let root = app
  for (let parent = parentOf(root); parent !== null; parent = parentOf(root)) {
    enclosing.push(root)
    root = parent
  }
  if (root.hasDecorator('shutdownState')) {
    throw new ShutdownRegistrationError('fastify-shutdown is already registered: register it once for each server')
  }
  return { root, enclosing }
}

function parentOf (app: FastifyInstance): FastifyInstance | null {
  const parent: unknown = Object.getPrototypeOf(app)
  return parent === Object.prototype ? null : parent as FastifyInstance
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
