/** The results of a teardown: the result of each resource, and the chain of resources that set the duration. */
import type { Resource, ResourceResult } from '../../types/index'
import { toError } from '../errors'
import type { Closing } from './close-resource'
import type { GraphNode } from './dependency-graph'

/** A resource of a teardown and its result. */
export interface Reported<R> extends GraphNode<R>, Closing {
  /** For a resource that is `last`: the resources that close before all `last` ones. Otherwise empty. */
  earlier: ReadonlySet<R>
  /** `null` until the resource has settled. */
  result: ResourceResult | null
}

const none: readonly string[] = Object.freeze([])

/** Creates the frozen result of a resource that settled at `endedAt`, in a teardown that began at `beganAt`. */
export function createResult<R extends Reported<R>> (
  { name, resource, startedAt, dependants, earlier }: R,
  outcome: ResourceResult['outcome'],
  error: unknown,
  beganAt: number,
  endedAt: number
): ResourceResult {
  const detail = detailOf(resource)
  const result: ResourceResult = {
    name,
    outcome,
    startedMs: startedAt - beganAt,
    durationMs: endedAt - startedAt,
    waitedFor: namesOf(dependants, earlier),
    error: outcome === 'closed' ? null : toError(error)
  }
  return Object.freeze(detail === undefined ? result : { ...result, detail })
}

/** The names of each group before the `last` resources. Every `last` resource has the same group. */
const namesOfGroups = new WeakMap<ReadonlySet<unknown>, readonly string[]>()

function namesOf<R extends Reported<R>> (dependants: readonly R[], earlier: ReadonlySet<R>): readonly string[] {
  const direct = dependants.filter(dependant => !earlier.has(dependant)).map(({ name }) => name)
  if (earlier.size === 0) return direct.length === 0 ? none : Object.freeze(direct)
  let names = namesOfGroups.get(earlier)
  if (names === undefined) namesOfGroups.set(earlier, names = Object.freeze(Array.from(earlier, ({ name }) => name)))
  return direct.length === 0 ? names : Object.freeze([...direct, ...names])
}

/**
 * Finds the chain that set the duration, first to close first. The search begins at the resource that ended last, and
 * each step goes to the dependant that ended last.
 */
export function criticalPathOf<R extends Reported<R>> (resources: readonly R[]): string[] {
  const path: string[] = []
  for (let resource = latest(resources); resource !== undefined; resource = latestDependant(resource)) {
    path.push(resource.name)
  }
  return path.reverse()
}

function latestDependant<R extends Reported<R>> ({ dependants, earlier }: R): R | undefined {
  return latest([latest(dependants), latest(earlier)].filter(each => each !== undefined))
}

function latest<R extends Reported<R>> (resources: Iterable<R>): R | undefined {
  let last: R | undefined
  for (const resource of resources) {
    if (resource.result !== null && (last === undefined || endOf(resource.result) > endOf(last.result!))) {
      last = resource
    }
  }
  return last
}

function endOf ({ startedMs, durationMs }: ResourceResult): number {
  return startedMs + durationMs
}

function detailOf (resource: Resource): Readonly<Record<string, unknown>> | undefined {
  if (resource.detail === undefined) return undefined
  try {
    const detail = resource.detail()
    return detail === undefined ? undefined : Object.freeze({ ...detail })
  } catch {
    return undefined // The result is complete without it.
  }
}
