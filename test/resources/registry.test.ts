import t from 'tap'
import { checkGraph } from '../../lib/resources/dependency-graph'
import { createRegistry, type Registry } from '../../lib/resources/registry'
import type { Resource } from '../../types/index'

const adapt = (): Resource => ({ close: () => {}, timeout: 7 })
const registry = (declared = {}): Registry => createRegistry(declared, adapt)
const close = (): void => {}

t.test('a name that is empty or that reaches a prototype is refused', async t => {
  for (const name of ['__proto__', 'constructor', 'prototype', '', 5]) {
    t.throws(() => registry().add(name as string, { close }, false), { code: 'FST_ERR_SHUTDOWN_RESOURCE', message: /^Expected a resource's name to be a non-empty string other than/ })
  }
  t.throws(() => registry(JSON.parse('{"__proto__":{"dependsOn":[]}}') as object), { code: 'FST_ERR_SHUTDOWN_RESOURCE' })
})

t.test('a second resource of the same name is refused', async t => {
  const one = registry({ db: { close } })
  t.throws(() => one.add('db', { close }, false), { code: 'FST_ERR_SHUTDOWN_DUPLICATE_RESOURCE', message: "Resource 'db' is already registered" })
})

t.test('a field of the wrong type is refused, and the error shows what was received', async t => {
  const bad: [object, RegExp][] = [
    [{ close: 'quit' }, /Expected 'close' of resource 'db' to be a function, got 'quit' \(string\)/],
    [{ pause: 1 }, /Expected 'pause' of resource 'db' to be a function, got 1 \(number\)/],
    [{ force: {} }, /'force'.*got \{\} \(object\)/],
    [{ detail: true }, /'detail'.*got true \(boolean\)/],
    [{ last: 1 }, /Expected 'last' of resource 'db' to be a boolean/],
    [{ timeout: '3s' }, /Expected 'timeout' of resource 'db' to be a positive number of milliseconds, got '3s' \(string\)/],
    [{ timeout: 0 }, /got 0 \(number\)/], [{ timeout: NaN }, /got NaN \(number\)/], [{ timeout: 2 ** 31 }, /'timeout'/], [{ timeout: 2 ** 31 - 0.5 }, /'timeout'/],
    [{ dependsOn: 'redis' }, /Expected 'dependsOn' of resource 'db' to be a list of names, got 'redis' \(string\)/],
    [{ dependsOn: [1] }, /got \[1\] \(array\)/],
    [{ client: 'pg' }, /Expected 'client' of resource 'db' to be a client, got 'pg' \(string\)/],
    [{ close, dependOn: [] }, /Resource 'db' has an unknown field 'dependOn'. Did you mean 'dependsOn'\?/]
  ]
  for (const [input, message] of bad) t.throws(() => registry({ db: input }), { code: 'FST_ERR_SHUTDOWN_RESOURCE', message })
})

t.test('seal refuses what the graph refuses; after it, a refused resource is not added', async t => {
  const one = registry({ db: { dependsOn: ['cach'], close } })
  one.add('cache', { close }, false)
  t.throws(() => one.seal(), { code: 'FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY', message: /Did you mean 'cache'/ })
  const other = registry({ db: { close } })
  other.seal()
  t.throws(() => other.add('queue', { dependsOn: ['redis'], close }, false), { code: 'FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY' })
  t.notOk(other.all.has('queue'))
  t.doesNotThrow(() => other.add('queue', { dependsOn: ['db'], close }, false))
})

t.test('a resource without close is refused, unless a plugin created its client or it has pause', async t => {
  for (const resource of [{ dependsOn: [] }, { timeout: 5 }, { force: close }]) {
    t.throws(() => registry({ redis: resource }).seal(), { code: 'FST_ERR_SHUTDOWN_RESOURCE', message: /^Resource 'redis' has no 'close', and no plugin created a client/ })
  }
  t.doesNotThrow(() => registry({ worker: { pause: close } }).seal())
})

t.test('what the user declares takes precedence over the plugin or the adapter, and undefined declares nothing', async t => {
  const one = registry({ redis: { timeout: 5, close: undefined }, db: { client: {}, timeout: 9, close: undefined }, plain: { client: {} } })
  one.adopt('redis', { close, timeout: 99 })
  one.seal()
  t.match(one.all.get('redis'), { timeout: 5, close })
  t.match(one.all.get('db'), { timeout: 9, close: Function })
  t.notOk('client' in one.all.get('db')!)
  t.equal(one.all.get('plain')?.timeout, 7)
  t.same([...one.positioned], ['redis'])
})

t.test('a resource may be removed twice, and this does not remove a later resource of the same name', async t => {
  const one = registry()
  const remove = one.add('db', { close }, true)
  t.ok(one.positioned.has('db'))
  remove()
  t.notOk(one.all.has('db'))
  t.notOk(one.positioned.has('db'))
  one.add('db', { close }, false)
  remove()
  t.ok(one.all.has('db'))
})

t.test('a removed resource is dropped from dependsOn, until it is added again', async t => {
  const one = registry({ queue: { dependsOn: ['redis', 'db'], close }, db: { close } })
  const remove = one.add('redis', { close }, false)
  const removeOther = one.add('other', { dependsOn: ['redis'], close }, false)
  one.seal()
  remove()
  t.same(one.all.get('queue')?.dependsOn, ['db'])
  t.doesNotThrow(() => checkGraph(one.all))
  one.add('redis', { close }, false)
  t.same(one.all.get('queue')?.dependsOn, ['redis', 'db'])
  removeOther()
  t.notOk(one.all.has('other'), 'it can still be removed')
})

t.test('a class instance keeps its methods when a dependency is removed or a plugin adds fields', async t => {
  class Queue {
    readonly dependsOn = ['redis']
    #open = true
    get isOpen (): boolean { return this.#open }
    close (): void { this.#open = false }
  }
  const queues = [new Queue(), new Queue()] as const
  const one = registry({ a: queues[0], b: queues[1] })
  const remove = one.add('redis', { close }, false)
  one.adopt('b', { close, timeout: 5 })
  remove()
  for (const name of ['a', 'b']) void one.all.get(name)?.close?.(new AbortController().signal)
  t.same(queues.map(queue => queue.isOpen), [false, false])
})

t.test('a resource that is added again with a circle is refused', async t => {
  const one = registry({ a: { dependsOn: ['b'], close } })
  const remove = one.add('b', { close }, false)
  one.seal()
  remove()
  t.throws(() => one.add('b', { dependsOn: ['a'], close }, false), { code: 'FST_ERR_SHUTDOWN_CIRCULAR_DEPENDENCY' })
  t.doesNotThrow(() => checkGraph(one.all))
})

t.test('an adopted resource that was added can be removed', async t => {
  const one = registry()
  const remove = one.add('redis', { timeout: 5 }, true)
  one.adopt('redis', { close })
  remove()
  t.notOk(one.all.has('redis'))
})

t.test('a removed name is forgotten with the last resource that lists it, however many are added and removed', async t => {
  const one = registry({ db: { close } })
  one.seal()
  for (const pair of [['a', 'b'], ['c', 'd']] as const) {
    const remove = one.add(pair[0], { close }, false)
    const removeUser = one.add(pair[1], { dependsOn: [pair[0], 'db'], close }, false)
    remove()
    t.same(one.all.get(pair[1])?.dependsOn, ['db'])
    removeUser()
    t.throws(() => one.add(pair[1], { dependsOn: [pair[0]], close }, false), { code: 'FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY' })
  }
  t.same([...one.all.keys()], ['db'])
})
