/**
 * The plugins that add an onClose hook before this plugin is registered. Neither Fastify nor avvio shows these hooks
 * with their owners. So this file watches each Fastify instance from its creation, which Fastify publishes on the
 * channel `fastify.initialization` of node:diagnostics_channel. An instance that was created before this package was
 * loaded is not watched, and nothing is known about its plugins.
 */
import { subscribe } from 'node:diagnostics_channel'
import type { FastifyInstance } from 'fastify'
import { loadingPlugins } from './util/plugin-tree'
import { replaceMethod } from './util/replaced-methods'

/** What is known about one instance, until this plugin is registered. */
interface Watched {
  /** The names of the plugins that have added an onClose hook. */
  readonly names: Set<string>
  /** Ends the watch. */
  stop(): void
}

const watched = new WeakMap<FastifyInstance, Watched>()

subscribe('fastify.initialization', message => watch((message as { readonly fastify: FastifyInstance }).fastify))

/**
 * Returns the names of the plugins that have added an onClose hook, and ends the watch of this instance. A hook of the
 * app itself is not included.
 */
export function earlierHooksOf (root: FastifyInstance): string[] {
  const { names, stop } = watched.get(root) ?? { names: [], stop () {} }
  stop()
  return [...names]
}

function watch (root: FastifyInstance): void {
  const names = new Set<string>()
  const stop = replaceMethod(root, 'addHook', original => function (
    this: FastifyInstance, name: string, hook: unknown
  ) {
    if (name === 'onClose') {
      const owner = loadingPlugins(root).at(-1)
      if (owner !== undefined) names.add(owner)
    }
    return (original as (name: string, hook: unknown) => FastifyInstance).call(this, name, hook)
  } as typeof root.addHook)
  watched.set(root, { names, stop })
}
