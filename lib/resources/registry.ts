/** The resources by name: the user has declared them, plugins have added them, or clients were adopted. */
import type { Resource, ResourceInput } from '../../types/index'
import { ShutdownDuplicateError, ShutdownResourceError } from '../errors'
import { checkGraph } from './dependency-graph'
import { checkResourceName, mergeResource, toResource, toResources, type Adapt } from './resource'

/** The registered plugins of Fastify. A resource may depend on them by name. */
export interface PluginNames {
  /** Returns whether a plugin of this name is registered. */
  has(name: string): boolean
  /** Returns the names that an error may suggest. */
  known(): Iterable<string>
}

const noPlugins: PluginNames = { has: () => false, known: () => [] }

/** The resources of one app. */
export interface Registry {
  /** Every resource. A removed resource is dropped from the `dependsOn` lists; it is not an unknown name. */
  readonly all: ReadonlyMap<string, Resource>
  /** The names of resources with a position of their own among the onClose hooks. */
  readonly positioned: ReadonlySet<string>
  /** The names of plugins that a resource depends on. They are in `all`, with nothing to close. */
  readonly plugins: ReadonlySet<string>
  /**
   * Adds a resource.
   *
   * @returns a function that removes it, and that may be called twice
   * @throws FST_ERR_SHUTDOWN_DUPLICATE_RESOURCE, FST_ERR_SHUTDOWN_RESOURCE; after `seal` also what `seal` throws
   */
  add(name: string, input: ResourceInput, hasPosition: boolean): () => void
  /**
   * Adds the resource of a client that another plugin created. The fields that the user declared under its name take
   * precedence.
   */
  adopt(name: string, resource: Resource): void
  /**
   * Checks the whole graph when the app is ready, because all names are known then. Later additions are checked one by
   * one.
   *
   * @param registered the plugins, whose names a `dependsOn` may contain. The onClose hooks of such a plugin run when
   *   the resources that depend on it have closed. @default none
   * @throws FST_ERR_SHUTDOWN_RESOURCE, FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY, FST_ERR_SHUTDOWN_CIRCULAR_DEPENDENCY
   */
  seal(registered?: PluginNames): void
  /**
   * Drops dependencies that are not valid. Called if the app closes before `seal` has succeeded, because every
   * registered resource must still close.
   */
  dropBrokenDependencies(): void
}

/**
 * Creates the registry from the option `resources`.
 *
 * @throws FST_ERR_SHUTDOWN_RESOURCE, FST_ERR_SHUTDOWN_CLIENT
 */
export function createRegistry (declared: Readonly<Record<string, ResourceInput>>, adapt: Adapt): Registry {
  const known = new Map(toResources(declared, adapt))
  const positioned = new Set<string>()
  const plugins = new Set<string>()
  const removed = new Set<string>()
  let registeredPlugins = noPlugins
  let isSealed = false

  return {
    get all () { return current() },
    positioned,
    plugins,
    add (name, input, hasPosition) {
      if (known.has(checkResourceName(name))) throw new ShutdownDuplicateError(name)
      known.set(name, toResource(name, input, adapt))
      const wasRemoved = removed.delete(name)
      if (isSealed) {
        try {
          addPluginsOf(known.get(name)!)
          check()
        } catch (error) {
          known.delete(name)
          if (wasRemoved) removed.add(name)
          throw error
        }
      }
      if (hasPosition) positioned.add(name)
      let isAdded = true
      return () => {
        if (!isAdded) return
        isAdded = false
        known.delete(name)
        positioned.delete(name)
        removed.add(name)
        forgetUnlisted()
      }
    },
    adopt (name, resource) {
      known.set(name, mergeResource(resource, known.get(name) ?? {}))
      positioned.add(name)
    },
    seal (registered = noPlugins) {
      registeredPlugins = registered
      for (const resource of [...known.values()]) addPluginsOf(resource)
      check()
      isSealed = true
    },
    dropBrokenDependencies () {
      if (isSealed) return
      keepDependencies(name => known.has(name))
      try {
        checkGraph(current())
      } catch {
        keepDependencies(() => false)
      }
    }
  }

  /** Adds the plugins that a resource depends on. */
  function addPluginsOf ({ dependsOn = [] }: Resource): void {
    for (const name of dependsOn) {
      if (known.has(name) || !registeredPlugins.has(name)) continue
      known.set(name, { close () {} })
      positioned.add(name)
      plugins.add(name)
    }
  }

  /** Keeps a removed name only while a resource lists it, because an app may add and remove any number of names. */
  function forgetUnlisted (): void {
    const listed = new Set(Array.from(known.values(), ({ dependsOn = [] }) => dependsOn).flat())
    for (const name of removed) if (!listed.has(name)) removed.delete(name)
  }

  function current (): ReadonlyMap<string, Resource> {
    if (removed.size === 0) return known
    return new Map(
      Array.from(known, ([name, resource]) => [name, withDependencies(resource, other => !removed.has(other))])
    )
  }

  function keepDependencies (keep: (name: string) => boolean): void {
    for (const [name, resource] of known) known.set(name, withDependencies(resource, keep))
  }

  function check (): void {
    const all = current()
    for (const [name, resource] of all) {
      // An entry with only `dependsOn` or `timeout` describes a client that a plugin creates. `force` alone is never
      // called.
      if (resource.close === undefined && resource.pause === undefined) {
        throw new ShutdownResourceError(
          `Resource '${name}' has no 'close', and no plugin created a client of that name ` +
          "(@fastify/postgres: 'postgres', 'postgres:<name>'; @fastify/redis: 'redis', 'redis:<namespace>')"
        )
      }
    }
    checkGraph(all, registeredPlugins.known())
  }
}

function withDependencies (resource: Resource, keep: (name: string) => boolean): Resource {
  const { dependsOn } = resource
  return dependsOn === undefined || dependsOn.every(keep)
    ? resource
    : { ...resource, dependsOn: dependsOn.filter(keep) }
}
