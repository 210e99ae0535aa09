/**
 * The order in which resources close, as a graph. A resource closes after all of its dependants, which is "the inverse
 * of the start-up order" (systemd.unit(5)).
 */
import type { Resource } from '../../types/index'
import { ShutdownCircleError, ShutdownDependencyError, redact } from '../errors'
import { suggest } from '../util/did-you-mean'

/**
 * A resource in the graph. It refers to its neighbours and not to their names, because 10 000 look-ups by name are
 * slow.
 */
export interface GraphNode<N> {
  readonly name: string
  readonly resource: Resource
  /** The resources that depend on this one directly. They close first. */
  dependants: readonly N[]
  /** The resources that this one uses. They close after it. */
  dependencies: readonly N[]
  /** The number of dependants that are not closed. The group before the `last` resources counts as one. */
  openDependants: number
}

/**
 * The resources that are `last`, and those that close before all of them. They are two groups and not an edge for each
 * pair, because 1 000 `last` resources beside 10 000 others would have ten million edges.
 */
export interface LastGroups<N> {
  /** Every `last` resource. */
  readonly lasts: readonly N[]
  /** Every other resource, except the resources that the `last` ones use. Empty if nothing is `last`. */
  readonly earlier: ReadonlySet<N>
}

/** An empty list of neighbours. Shared, because most nodes have no dependants or no dependencies. */
export const noNeighbours: readonly never[] = []

/**
 * Checks that resources can be ordered.
 *
 * @param otherNames more names that an error may suggest. @default none
 * @throws FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY with "did you mean"
 * @throws FST_ERR_SHUTDOWN_CIRCULAR_DEPENDENCY with the path
 */
export function checkGraph (
  resources: ReadonlyMap<string, Resource>, otherNames: Iterable<string> = noNeighbours
): void {
  interface PlainNode extends GraphNode<PlainNode> {}
  const nodes = new Map<string, PlainNode>()
  for (const [name, resource] of resources) {
    nodes.set(name, { name, resource, dependants: noNeighbours, dependencies: noNeighbours, openDependants: 0 })
  }
  linkGraph(nodes, otherNames)
}

/**
 * Sets `dependants`, `dependencies` and `openDependants` of nodes that have no neighbours yet.
 *
 * @param otherNames as `checkGraph`
 * @returns the groups of resources that `last` separates
 * @throws as `checkGraph`
 */
export function linkGraph<N extends GraphNode<N>> (
  nodes: ReadonlyMap<string, N>, otherNames: Iterable<string> = noNeighbours
): LastGroups<N> {
  for (const node of nodes.values()) {
    for (const name of node.resource.dependsOn ?? noNeighbours) {
      const dependency = nodes.get(name)
      if (dependency === undefined) {
        throw new ShutdownDependencyError(node.name, redact(name), suggest(name, [...nodes.keys(), ...otherNames]))
      }
      // `dependsOn` may contain a name twice. This node is then already the last dependant.
      if (dependency.dependants[dependency.dependants.length - 1] !== node) connect(node, dependency)
    }
  }
  checkCircles(nodes)
  return groupByLast(nodes)
}

/**
 * Separates the `last` resources from those that close before them. This adds no circle, because nothing that a `last`
 * resource uses is in the earlier group.
 */
function groupByLast<N extends GraphNode<N>> (nodes: ReadonlyMap<string, N>): LastGroups<N> {
  const lasts = [...nodes.values()].filter(({ resource }) => resource.last === true)
  if (lasts.length === 0) return { lasts, earlier: new Set() }
  const usedByLasts = new Set(lasts)
  for (const node of usedByLasts) for (const dependency of node.dependencies) usedByLasts.add(dependency)
  const earlier = new Set([...nodes.values()].filter(node => !usedByLasts.has(node)))
  if (earlier.size > 0) for (const node of lasts) node.openDependants++
  return { lasts, earlier }
}

function connect<N extends GraphNode<N>> (node: N, dependency: N): void {
  node.dependencies = append(node.dependencies, dependency)
  dependency.dependants = append(dependency.dependants, node)
}

/**
 * Adds one neighbour. The first two are added without `push`, because the first `push` into an array allocates memory
 * for sixteen more, and most nodes have one or two neighbours.
 */
function append<N> (nodes: readonly N[], node: N): readonly N[] {
  if (nodes.length === 0) return [node]
  if (nodes.length === 1) return [nodes[0]!, node]
  ;(nodes as N[]).push(node)
  return nodes
}

/**
 * Checks that there is no circle. It removes nodes without dependants until none is left (the algorithm of Kahn). The
 * remaining nodes are in a circle, or a circle depends on them.
 *
 * @throws FST_ERR_SHUTDOWN_CIRCULAR_DEPENDENCY
 */
function checkCircles<N extends GraphNode<N>> (nodes: ReadonlyMap<string, N>): void {
  const removed: N[] = []
  for (const node of nodes.values()) {
    node.openDependants = node.dependants.length
    if (node.openDependants === 0) removed.push(node)
  }
  for (const { dependencies } of removed) {
    for (const node of dependencies) if (--node.openDependants === 0) removed.push(node)
  }
  if (removed.length < nodes.size) {
    const remaining = new Set([...nodes.values()].filter(({ openDependants }) => openDependants > 0))
    throw new ShutdownCircleError(findCircle(remaining).join(' -> '))
  }
  for (const node of removed) node.openDependants = node.dependants.length
}

/** Follows the dependants. Each remaining node has a remaining dependant, so one node must be found twice. */
function findCircle<N extends GraphNode<N>> (remaining: ReadonlySet<N>): string[] {
  const path: N[] = [remaining.values().next().value!]
  for (;;) {
    const next = path[0]!.dependants.find(node => remaining.has(node))!
    const seenAt = path.indexOf(next)
    path.unshift(next)
    if (seenAt !== -1) return path.slice(0, seenAt + 2).map(({ name }) => name)
  }
}
