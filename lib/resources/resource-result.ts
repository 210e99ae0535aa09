/** The results of a teardown: the result of each resource, and the chain of resources that set the duration. */
import type { Resource, ResourceResult } from '../../types/index'
import { toError } from '../errors'
import type { Closing } from './close-resource'
import type { GraphNode } from './dependency-graph'

/** A resource of a teardown and its result. */
export interface Reported<R> extends GraphNode<R>, Closing {
  /** `null` until the resource has settled. */
  result: ResourceResult | null
}

const none: readonly string[] = Object.freeze([])

/** Creates the frozen result of a resource that settled at `endedAt`, in a teardown that began at `beganAt`. */
export function createResult<R extends Reported<R>> (
  { name, resource, startedAt, dependants }: R,
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
    waitedFor: dependants.length === 0 ? none : Object.freeze(dependants.map(dependant => dependant.name)),
    error: outcome === 'closed' ? null : toError(error)
  }
  return Object.freeze(detail === undefined ? result : { ...result, detail })
}

/**
 * Finds the chain that set the duration, first to close first. The search begins at the resource that ended last, and
 * each step goes to the dependant that ended last.
 */
export function criticalPathOf<R extends Reported<R>> (resources: readonly R[]): string[] {
  const path: string[] = []
  for (let resource = latest(resources); resource !== undefined; resource = latest(resource.dependants)) {
    path.push(resource.name)
  }
  return path.reverse()
}

function latest<R extends Reported<R>> (resources: readonly R[]): R | undefined {
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
