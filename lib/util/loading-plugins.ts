/**
 * The plugins of Fastify that are loading. Fastify prints its plugins as a tree: one line for each, which ends with the
 * time that it took to load. The time of a plugin that is loading is -1.
 */
import type { FastifyInstance } from 'fastify'

/**
 * Returns the names of the plugins that are loading now, the innermost one last. Each has registered the next one. The
 * name of a plugin without a name is the first lines of its code, at most 80 characters.
 */
export function loadingPlugins (app: FastifyInstance): string[] {
  // The first line is the root of the tree.
  return app.printPlugins().split('\n').slice(1)
    .flatMap(line => /^[\s│├└─┬]*(.*) -1 ms$/u.exec(line)?.[1]!.slice(0, 80) ?? [])
    .filter(name => name !== 'bound _after')
}
