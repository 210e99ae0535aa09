import t from 'tap'
import { checkGraph, linkGraph, noNeighbours, type GraphNode } from '../../lib/resources/dependency-graph'
import type { Resource } from '../../types/index'

interface Node extends GraphNode<Node> {}

const check = (resources: Record<string, Resource>): void => checkGraph(new Map(Object.entries(resources)))

function build (resources: Record<string, Resource>): ReadonlyMap<string, Node> {
  return new Map(Object.entries(resources).map(([name, resource]): [string, Node] =>
    [name, { name, resource, dependants: noNeighbours, dependencies: noNeighbours, openDependants: 0 }]))
}

function link (resources: Record<string, Resource>): ReadonlyMap<string, Node> {
  const nodes = build(resources)
  linkGraph(nodes)
  return nodes
}

const dependantsOf = (nodes: ReadonlyMap<string, Node>, name: string): string[] => nodes.get(name)!.dependants.map(node => node.name)
const dependenciesOf = (nodes: ReadonlyMap<string, Node>, name: string): string[] => nodes.get(name)!.dependencies.map(node => node.name)

t.test('an unknown dependency is refused, with the nearest known name', async t => {
  t.throws(() => check({ redis: {}, queue: { dependsOn: ['redi'] } }), {
    code: 'FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY', message: "Resource 'queue' depends on 'redi', which is not registered. Did you mean 'redis'?"
  })
  t.throws(() => check({ redis: {}, queue: { dependsOn: ['postgres'] } }), { message: "Resource 'queue' depends on 'postgres', which is not registered" })
})

t.test('a name that is a connection string is printed without its password', async t => {
  t.throws(() => check({ queue: { dependsOn: ['redis://user:hunter2@cache'] } }), { message: /depends on 'redis:\/\/\*\*\*@cache'/ })
})

t.test('a circle is refused and printed in the order of its dependencies', async t => {
  t.throws(() => check({ c: { dependsOn: ['a'] }, x: { dependsOn: ['a'] }, a: { dependsOn: ['b', 'y'] }, b: { dependsOn: ['c'] }, y: {} }), {
    code: 'FST_ERR_SHUTDOWN_CIRCULAR_DEPENDENCY', message: /(a -> b -> c -> a|b -> c -> a -> b|c -> a -> b -> c)$/
  })
  t.throws(() => check({ a: { dependsOn: ['a'] } }), { message: 'Resources depend on each other in a circle: a -> a' })
})

t.test('the printed circle leaves out the resources that depend on it or are used by it', async t => {
  t.throws(() => check({ below: {}, a: { dependsOn: ['b', 'below'] }, b: { dependsOn: ['a'] }, above: { dependsOn: ['a'] } }), {
    message: /circle: (a -> b -> a|b -> a -> b)$/
  })
})

t.test('a dependency that is listed twice counts once', async t => {
  t.same(dependantsOf(link({ a: { dependsOn: ['b', 'b'] }, b: {} }), 'b'), ['a'])
})

t.test('a resource may have the name of a property that every object inherits', async t => {
  t.same(dependantsOf(link({ toString: { dependsOn: ['valueOf'] }, valueOf: {} }), 'valueOf'), ['toString'])
})

t.test('every resource closes before one that is last, except the resources that this one uses', async t => {
  const nodes = build({ otel: { last: true, dependsOn: ['collector'] }, collector: { dependsOn: ['network'] }, network: {}, api: {} })
  const { lasts, earlier } = linkGraph(nodes)
  t.same(lasts.map(({ name }) => name), ['otel'])
  t.same([...earlier].map(({ name }) => name), ['api'])
  t.equal(nodes.get('otel')!.openDependants, 1)
  t.same(dependenciesOf(nodes, 'collector'), ['network'])
  t.same(dependenciesOf(nodes, 'network'), [])
})

t.test('a circle of 3 000 resources is found', async t => {
  const circle = Object.fromEntries(Array.from({ length: 3_000 }, (_, i) => [`r${i}`, { dependsOn: [`r${(i + 1) % 3_000}`] }]))
  t.throws(() => check(circle), { code: 'FST_ERR_SHUTDOWN_CIRCULAR_DEPENDENCY' })
})
