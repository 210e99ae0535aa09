/** The results of a teardown: the result of each resource, and the chain of resources that set the duration. */
import type { HookResult, Resource, ResourceResult } from '../../types/index'
import { toError } from '../errors'
import { withResultJson } from '../util/error-json'
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
  return Object.freeze(withResultJson(detail === undefined ? result : { ...result, detail }))
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

/** A part of the close that has a duration: a resource or a hook of the app. */
type Step = ResourceResult | HookResult

/**
 * Finds the chain that set the duration, first to close first. The search begins at the step that ended last. From each
 * step, it continues with the step that ended last among those that this step has waited for. A resource waits for its
 * dependants and for the hooks before its position, and a hook waits for everything before it.
 *
 * @param hooks the app's own hooks, in the order in which they ended
 */
export function criticalPathOf (resources: readonly ResourceResult[], hooks: readonly HookResult[] = []): string[] {
  const byName = new Map(resources.map(result => [result.name, result]))
  const all: readonly Step[] = [...resources, ...hooks]
  const path = new Set<Step>()
  for (let step = latest(all); step !== undefined && !path.has(step); step = latest(before(step))) path.add(step)
  return [...path].reverse().map(step => 'hook' in step ? `${step.hook} hook of ${step.name}` : step.name)

  function before (step: Step): Step[] {
    const earlier = (other: Step): boolean => other !== step && !path.has(other) && endOf(other) <= step.startedMs
    if ('hook' in step) return all.filter(earlier)
    return [...step.waitedFor.flatMap(name => byName.get(name) ?? []), ...hooks.filter(earlier)]
  }
}

function latest (steps: readonly Step[]): Step | undefined {
  let last: Step | undefined
  for (const step of steps) if (last === undefined || endOf(step) > endOf(last)) last = step
  return last
}

function endOf ({ startedMs, durationMs }: Step): number {
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
