/**
 * Who waits for whom. Stop is start backwards: a resource closes after everything that depends on it ("the inverse of the
 * start-up order", systemd.unit). Pure data: names in, plan out.
 */
import type { Resource } from '../../types/index'
import { ShutdownCircleError, ShutdownDependencyError } from '../errors'
import { suggest } from '../util/did-you-mean'

export interface Graph {
  /** For each resource, those that depend on it directly. They close first. */
  readonly dependants: ReadonlyMap<string, readonly string[]>
  /** For each resource, those that it uses. They close after it. */
  readonly dependencies: ReadonlyMap<string, readonly string[]>
}

/** A resource's place in the graph. Neighbours are held and not named: looking up 10 000 names again and again is what planning costs. */
export interface Place<P> {
  readonly name: string
  readonly resource: Resource
  /** Those that depend on it directly. They close first. */
  above: readonly P[]
  /** Those that it uses. They close after it. */
  below: readonly P[]
  /** How many of `above` are still to close. */
  waiting: number
}

/**
 * @throws FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY with "did you mean"
 * @throws FST_ERR_SHUTDOWN_CIRCULAR_DEPENDENCY with the path
 */
export function planGraph (resources: ReadonlyMap<string, Resource>): Graph {
  interface Plain extends Place<Plain> {}
  const places = new Map<string, Plain>()
  for (const [name, resource] of resources) places.set(name, { name, resource, above: nobody, below: nobody, waiting: 0 })
  link(places)
  const names = (side: 'above' | 'below'): Map<string, string[]> => new Map(Array.from(places.values(), place => [place.name, place[side].map(({ name }) => name)]))
  return { dependencies: names('below'), dependants: names('above') }
}

/**
 * Fill in `above`, `below` and `waiting` of places that have none yet.
 *
 * @throws as `planGraph`
 */
export function link<P extends Place<P>> (places: ReadonlyMap<string, P>): void {
  const lasts: P[] = []
  for (const place of places.values()) {
    const { dependsOn = nobody, last } = place.resource
    if (last === true) lasts.push(place)
    for (const other of dependsOn) {
      const below = places.get(other)
      if (below === undefined) throw new ShutdownDependencyError(place.name, other, suggest(other, places.keys()))
      // Named twice is named once: this place is the last that was added there, or has not been.
      if (below.above[below.above.length - 1] !== place) connect(place, below)
    }
  }
  // Whatever may still write depends on what takes the writing, said or not.
  if (lasts.length > 0) {
    const below = new Set(lasts)
    for (const place of below) for (const other of place.below) below.add(other)
    for (const place of places.values()) {
      if (below.has(place)) continue
      for (const last of lasts) if (!place.below.includes(last)) connect(place, last)
    }
  }
  refuseCircles(places)
}

function connect<P extends Place<P>> (place: P, below: P): void {
  place.below = and(place.below, below)
  below.above = and(below.above, place)
}

/** Whom a place has above and below while it has none. */
export const nobody: readonly never[] = []

/** Most places have one neighbour on a side, or two, and the first `push` that needs room takes it for sixteen more. */
function and<P> (places: readonly P[], one: P): readonly P[] {
  if (places.length === 0) return [one]
  if (places.length === 1) return [places[0]!, one]
  ;(places as P[]).push(one)
  return places
}

/** Take away who has no dependants, again and again (Kahn). What stays is in a circle, or below one. */
function refuseCircles<P extends Place<P>> (places: ReadonlyMap<string, P>): void {
  const free: P[] = []
  for (const place of places.values()) {
    place.waiting = place.above.length
    if (place.waiting === 0) free.push(place)
  }
  for (const { below } of free) for (const place of below) if (--place.waiting === 0) free.push(place)
  if (free.length < places.size) {
    const stuck = new Set([...places.values()].filter(({ waiting }) => waiting > 0))
    throw new ShutdownCircleError(circle(stuck).join(' -> '))
  }
  for (const place of free) place.waiting = place.above.length
}

/** Walk up from one that is stuck: each is waited for by another stuck one, so a name must come twice. */
function circle<P extends Place<P>> (stuck: ReadonlySet<P>): string[] {
  const path: P[] = [stuck.values().next().value!]
  for (;;) {
    const next = path[0]!.above.find(place => stuck.has(place))!
    const seen = path.indexOf(next)
    path.unshift(next)
    if (seen !== -1) return path.slice(0, seen + 2).map(({ name }) => name)
  }
}
