/** The resources by name: what the user declared, what plugins added, what was adopted. */
import type { Resource, ResourceInput } from '../../types/index'
import { ShutdownDuplicateError, ShutdownResourceError } from '../errors'
import { planGraph } from './dependency-graph'
import { checkResourceName, overlay, toResource, toResources, type Adapt } from './resource'

export interface Registry {
  /** What was taken away again is no unknown name for those that still depend on it: they wait for one less. */
  readonly all: ReadonlyMap<string, Resource>
  /** Names with a place of their own in the line of onClose hooks. */
  readonly placed: ReadonlySet<string>
  /**
   * @returns undo, which may be called twice
   * @throws FST_ERR_SHUTDOWN_DUPLICATE_RESOURCE, FST_ERR_SHUTDOWN_RESOURCE; once sealed also what the graph refuses
   */
  add(name: string, input: ResourceInput, placed: boolean): () => void
  /** A resource that its plugin brought along; what the user said of it counts first. */
  adopt(name: string, resource: Resource): void
  /** The app is ready: all names are known. @throws what cannot be, with the names */
  seal(): void
  /**
   * It closes without ever having been ready: names may be missing, or the graph was refused. What is there must close all
   * the same, in the order that can still be kept.
   */
  relax(): void
}

/** @throws FST_ERR_SHUTDOWN_RESOURCE */
export function createRegistry (declared: Readonly<Record<string, ResourceInput>>, adapt: Adapt): Registry {
  const known = new Map(toResources(declared, adapt))
  const placed = new Set<string>()
  const gone = new Set<string>()
  let sealed = false

  return {
    get all () { return standing() },
    placed,
    add (name, input, hasPlace) {
      if (known.has(checkResourceName(name))) throw new ShutdownDuplicateError(name)
      known.set(name, toResource(name, input, adapt))
      const wasThere = gone.delete(name)
      if (sealed) {
        try {
          check()
        } catch (error) {
          known.delete(name)
          if (wasThere) gone.add(name)
          throw error
        }
      }
      if (hasPlace) placed.add(name)
      let isThere = true
      return () => {
        if (!isThere) return
        isThere = false
        known.delete(name)
        placed.delete(name)
        gone.add(name)
      }
    },
    adopt (name, resource) {
      known.set(name, overlay(resource, known.get(name) ?? {}))
      placed.add(name)
    },
    seal () {
      check()
      sealed = true
    },
    relax () {
      if (sealed) return
      limit(other => known.has(other))
      try {
        planGraph(standing())
      } catch {
        limit(() => false)
      }
    }
  }

  function standing (): ReadonlyMap<string, Resource> {
    return gone.size === 0 ? known : new Map(Array.from(known, ([name, resource]) => [name, relying(resource, other => !gone.has(other))]))
  }

  function limit (keep: (other: string) => boolean): void {
    for (const [name, resource] of known) known.set(name, relying(resource, keep))
  }

  function check (): void {
    const all = standing()
    for (const [name, resource] of all) {
      // A mere name with `dependsOn` or `timeout` stands for what a plugin brings along; here none did. `force` alone is never called.
      if (resource.close === undefined && resource.pause === undefined) {
        throw new ShutdownResourceError(`Resource '${name}' has no 'close', and no plugin brought a client of that name (@fastify/postgres: 'postgres', 'postgres:<name>'; @fastify/redis: 'redis', 'redis:<namespace>')`)
      }
    }
    planGraph(all)
  }
}

function relying (resource: Resource, keep: (other: string) => boolean): Resource {
  const { dependsOn } = resource
  return dependsOn === undefined || dependsOn.every(keep) ? resource : { ...resource, dependsOn: dependsOn.filter(keep) }
}
