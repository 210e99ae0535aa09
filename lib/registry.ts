/** The resources by name: what the user declared, what plugins added, what was adopted. */
import type { Resource, ResourceInput } from '../types/index'
import { ShutdownDuplicateError, ShutdownResourceError } from './errors'
import { planGraph } from './graph'
import { checkResourceName, toResource, type Adapt } from './resource'

export interface Registry {
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

export function createRegistry (declared: ReadonlyMap<string, Resource>, adapt: Adapt): Registry {
  const all = new Map(declared)
  const placed = new Set<string>()
  let sealed = false

  return {
    all,
    placed,
    add (name, input, hasPlace) {
      if (all.has(checkResourceName(name))) throw new ShutdownDuplicateError(name)
      const resource = toResource(name, input, adapt)
      all.set(name, resource)
      if (sealed) {
        try {
          check()
        } catch (error) {
          all.delete(name)
          throw error
        }
      }
      if (hasPlace) placed.add(name)
      return () => {
        if (all.get(name) !== resource) return
        all.delete(name)
        placed.delete(name)
        for (const other of all.keys()) limit(other, each => each !== name)
      }
    },
    adopt (name, resource) {
      all.set(name, { ...resource, ...all.get(name) })
      placed.add(name)
    },
    seal () {
      check()
      sealed = true
    },
    relax () {
      if (sealed) return
      for (const name of all.keys()) limit(name, other => all.has(other))
      try {
        planGraph(all)
      } catch {
        for (const name of all.keys()) limit(name, () => false)
      }
    }
  }

  function limit (name: string, keep: (other: string) => boolean): void {
    const { dependsOn, ...resource } = all.get(name)!
    if (dependsOn !== undefined && !dependsOn.every(keep)) all.set(name, { ...resource, dependsOn: dependsOn.filter(keep) })
  }

  function check (): void {
    for (const [name, resource] of all) {
      // A mere name with `dependsOn` or `timeout` stands for what a plugin brings along; here none did.
      if (resource.close === undefined && resource.pause === undefined && resource.force === undefined) {
        throw new ShutdownResourceError(`Resource '${name}' has no 'close', and no plugin brought a client of that name (@fastify/postgres: 'postgres', 'postgres:<name>'; @fastify/redis: 'redis', 'redis:<namespace>')`)
      }
    }
    planGraph(all)
  }
}
