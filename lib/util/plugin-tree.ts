/** The names of Fastify's plugins. A plugin without a name has the first lines of its code as its name. */
import type { FastifyInstance } from 'fastify'

/** Longest name, in characters. */
const longestName = 80

/** Returns the names of the plugins that are loading now, the innermost one last. Each has registered the next one. */
export function loadingPlugins (app: FastifyInstance): string[] {
  return pluginTree(app).flatMap(({ name, loadTime }) => loadTime < 0 ? [name] : [])
}

/** Returns the names of all plugins that are registered, in any context. */
export function registeredPlugins (app: FastifyInstance): string[] {
  return pluginTree(app).map(({ name }) => name)
}

/**
 * Fastify prints its plugins as a tree: one line for each, which ends with the time that it took to load, in
 * milliseconds. The time of a plugin that is loading is -1.
 */
function pluginTree (app: FastifyInstance): { readonly name: string, readonly loadTime: number }[] {
  return app.printPlugins().split('\n')
    .map(line => /^[\s│├└─┬]*(.*) (\S+) ms$/u.exec(line))
    .flatMap(found => found === null ? [] : [{ name: found[1]!.slice(0, longestName), loadTime: Number(found[2]) }])
    .filter(({ name }) => name !== 'root' && name !== 'bound _after')
}
