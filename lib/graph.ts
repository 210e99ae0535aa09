/**
 * Who waits for whom. Stop is start backwards: a resource closes after everything that depends on it ("the inverse of the
 * start-up order", systemd.unit). Pure data: names in, plan out.
 */
import type { Resource } from '../types/index'
import { ShutdownCircleError, ShutdownDependencyError } from './errors'
import { suggest } from './suggest'

export interface Graph {
  /** For each resource, those that depend on it directly. They close first. */
  readonly dependants: ReadonlyMap<string, readonly string[]>
  /** For each resource, those that it uses. They close after it. */
  readonly dependencies: ReadonlyMap<string, readonly string[]>
}

/**
 * @throws FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY with "did you mean"
 * @throws FST_ERR_SHUTDOWN_CIRCULAR_DEPENDENCY with the path
 */
export function planGraph (resources: ReadonlyMap<string, Resource>): Graph {
  const dependencies = new Map<string, string[]>()
  const dependants = new Map<string, string[]>()
  for (const name of resources.keys()) dependants.set(name, [])
  const lasts = [...resources].filter(([, resource]) => resource.last === true).map(([name]) => name)

  for (const [name, resource] of resources) {
    const uses = new Set(resource.dependsOn)
    for (const other of uses) {
      if (!resources.has(other)) throw new ShutdownDependencyError(name, other, suggest(other, resources.keys()))
    }
    dependencies.set(name, [...uses])
  }
  // Whatever may still write depends on what takes the writing, said or not.
  if (lasts.length > 0) {
    const below = reachable(lasts, dependencies)
    for (const [name, uses] of dependencies) {
      if (below.has(name)) continue
      for (const last of lasts) if (!uses.includes(last)) uses.push(last)
    }
  }
  for (const [name, uses] of dependencies) for (const other of uses) dependants.get(other)!.push(name)
  refuseCircles(dependencies, dependants)
  return { dependencies, dependants }
}

/** @returns the names themselves and all that can be reached from them */
export function reachable (from: readonly string[], edges: ReadonlyMap<string, readonly string[]>): Set<string> {
  const found = new Set(from)
  for (const name of found) for (const other of edges.get(name)!) found.add(other)
  return found
}

/** Take away who has no dependants, again and again (Kahn). What stays is in a circle, or below one. */
function refuseCircles (dependencies: Graph['dependencies'], dependants: Graph['dependants']): void {
  const waitingFor = new Map([...dependants].map(([name, above]) => [name, above.length]))
  const free = [...waitingFor].filter(([, count]) => count === 0).map(([name]) => name)
  for (const name of free) {
    waitingFor.delete(name)
    for (const other of dependencies.get(name)!) {
      const count = waitingFor.get(other)! - 1
      waitingFor.set(other, count)
      if (count === 0) free.push(other)
    }
  }
  if (waitingFor.size === 0) return
  throw new ShutdownCircleError(circle(waitingFor.keys().next().value!, waitingFor, dependants).join(' -> '))
}

/** Walk up from one that is stuck: each is waited for by another stuck one, so a name must come twice. */
function circle (start: string, stuck: ReadonlyMap<string, number>, dependants: Graph['dependants']): string[] {
  const path = [start]
  for (;;) {
    const next = dependants.get(path[0]!)!.find(name => stuck.has(name))!
    const seen = path.indexOf(next)
    path.unshift(next)
    if (seen !== -1) return path.slice(0, seen + 2)
  }
}
