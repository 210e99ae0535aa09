/** The graph, its execution and the registry. Rules in virtual time; random graphs against a model in a few lines. */
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { ShutdownTimeoutError } from '../../lib/errors'
import { planGraph } from '../../lib/resources/dependency-graph'
import { createRegistry } from '../../lib/resources/registry'
import { createTeardown, outcomeOf, teardown } from '../../lib/resources/teardown'
import type { Resource, ResourceResult } from '../../types/index'
import { settled, virtualTime } from '../helpers/time'

const wait = (ms: number): Promise<void> => new Promise(resolve => { setTimeout(resolve, ms) })
const never = (): Promise<void> => new Promise(() => {})
const names = (results: readonly ResourceResult[]): string[] => results.map(({ name }) => name)

/** Resources that write down when they begin and end to close. */
function diary (): { entries: string[], closes (name: string, ms?: number): () => Promise<void>, before (first: string, second: string): boolean } {
  const entries: string[] = []
  return {
    entries,
    closes: (name, ms = 1) => async () => {
      entries.push(`${name} begins`)
      await wait(ms)
      entries.push(`${name} ends`)
    },
    before: (first, second) => entries.indexOf(first) !== -1 && entries.indexOf(first) < entries.indexOf(second)
  }
}

function byName (results: readonly ResourceResult[], name: string): ResourceResult {
  return results.find(result => result.name === name)!
}

t.test('graph', t => {
  const plan = (graph: Record<string, Resource>): ReturnType<typeof planGraph> => planGraph(new Map(Object.entries(graph)))

  t.test('names what is not there, with the nearest name', async t => {
    t.throws(() => plan({ redis: {}, queue: { dependsOn: ['redi'] } }), {
      code: 'FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY', message: "Resource 'queue' depends on 'redi', which is not registered. Did you mean 'redis'?"
    })
    t.throws(() => plan({ redis: {}, queue: { dependsOn: ['postgres'] } }), { message: "Resource 'queue' depends on 'postgres', which is not registered" })
  })

  t.test('prints a circle in the order of its dependencies', async t => {
    t.throws(() => plan({ c: { dependsOn: ['a'] }, x: { dependsOn: ['a'] }, a: { dependsOn: ['b', 'y'] }, b: { dependsOn: ['c'] }, y: {} }), {
      code: 'FST_ERR_SHUTDOWN_CIRCULAR_DEPENDENCY', message: /(a -> b -> c -> a|b -> c -> a -> b|c -> a -> b -> c)$/
    })
    t.throws(() => plan({ a: { dependsOn: ['a'] } }), { message: 'Resources depend on each other in a circle: a -> a' })
  })

  t.test('prints only the circle, not who waits for it', async t => {
    t.throws(() => plan({ below: {}, a: { dependsOn: ['b', 'below'] }, b: { dependsOn: ['a'] }, above: { dependsOn: ['a'] } }), {
      message: /circle: (a -> b -> a|b -> a -> b)$/
    })
  })

  t.test('counts a dependency that is named twice once', async t => {
    t.same(plan({ a: { dependsOn: ['b', 'b'] }, b: {} }).dependants.get('b'), ['a'])
  })

  t.test('takes names that objects have by nature for names', async t => {
    t.same(plan({ toString: { dependsOn: ['valueOf'] }, valueOf: {} }).dependants.get('valueOf'), ['toString'])
  })

  t.test('lets everything depend on what is last, but not what the last itself uses', async t => {
    const { dependencies } = plan({ otel: { last: true, dependsOn: ['collector'] }, collector: { dependsOn: ['network'] }, network: {}, api: {} })
    t.same(dependencies.get('api'), ['otel'])
    t.same(dependencies.get('collector'), ['network'])
    t.same(dependencies.get('network'), [])
  })

  t.test('finds a circle of 3 000 at once', async t => {
    const circle = Object.fromEntries(Array.from({ length: 3_000 }, (_, i) => [`r${i}`, { dependsOn: [`r${(i + 1) % 3_000}`] }]))
    t.throws(() => plan(circle), { code: 'FST_ERR_SHUTDOWN_CIRCULAR_DEPENDENCY' })
  })

  t.end()
})

t.test('order', t => {
  t.test('a resource closes after everything that depends on it, however they are declared', async t => {
    const time = virtualTime(t)
    const { closes, before } = diary()
    await time.until(teardown({
      postgres: { close: closes('postgres') },
      worker: { dependsOn: ['redis', 'postgres'], close: closes('worker', 30) },
      redis: { dependsOn: ['postgres'], close: closes('redis', 20) }
    }))
    t.ok(before('worker ends', 'redis begins'))
    t.ok(before('redis ends', 'postgres begins'))
  })

  t.test('strangers close at the same time, and each starts the moment its last dependant has closed', async t => {
    const time = virtualTime(t)
    const { resources, durationMs } = await time.until(teardown({
      a: { close: () => wait(100) },
      b: { dependsOn: ['a'], close: () => wait(50) },
      c: { dependsOn: ['a'], close: () => wait(80) },
      d: { close: () => wait(70) }
    }))
    t.equal(byName(resources, 'a').startedMs, 80, 'not with the first dependant that is done')
    t.equal(byName(resources, 'd').startedMs, 0)
    t.equal(durationMs, 180)
    t.same(byName(resources, 'a').waitedFor, ['b', 'c'])
  })

  t.test('the critical path is the chain that set the duration', async t => {
    const time = virtualTime(t)
    const { criticalPath } = await time.until(teardown({
      database: { close: () => wait(10) },
      cache: { dependsOn: ['database'], close: () => wait(20) },
      worker: { dependsOn: ['cache'], close: () => wait(30) },
      api: { dependsOn: ['database'], close: () => wait(40) },
      quick: { close: () => wait(5) }
    }))
    t.same(criticalPath, ['worker', 'cache', 'database'])
  })

  t.test('what is last closes after strangers', async t => {
    const time = virtualTime(t)
    const { closes, before } = diary()
    await time.until(teardown({ logs: { last: true, close: closes('logs') }, slow: { close: closes('slow', 50) }, other: { close: closes('other') } }))
    t.ok(before('slow ends', 'logs begins'))
    t.ok(before('other ends', 'logs begins'))
  })

  t.end()
})

t.test('outcomes', t => {
  t.test('closed, failed, forced and abandoned, each with its time and its error', async t => {
    const time = virtualTime(t)
    const broken = new Error('broken')
    const { outcome, resources } = await time.until(teardown({
      closed: { close: () => wait(10) },
      synchronous: { close () {} },
      rejects: { close: () => wait(20).then(() => { throw broken }) },
      throws: { close () { throw broken } },
      forced: { timeout: 100, close: never, force: () => wait(4) },
      abandoned: { timeout: 100, close: never },
      stuck: { timeout: 100, close: never, force: never },
      unforced: { timeout: 100, close: never, force () { throw broken } }
    }))
    const told = Object.fromEntries(resources.map(({ name, outcome, durationMs, error }) => [name, [outcome, durationMs, error?.message ?? null]]))
    t.same(told, {
      closed: ['closed', 10, null],
      synchronous: ['closed', 0, null],
      rejects: ['failed', 20, 'broken'],
      throws: ['failed', 0, 'broken'],
      forced: ['forced', 104, "Resource 'forced' did not finish in 100 ms"],
      abandoned: ['abandoned', 100, "Resource 'abandoned' did not finish in 100 ms"],
      stuck: ['abandoned', 110, "Resource 'stuck' did not finish in 100 ms"],
      unforced: ['abandoned', 100, 'broken']
    })
    t.equal(byName(resources, 'rejects').error, broken, 'the very error')
    t.equal(outcome, 'failed')
    t.equal(time.armed(), 0, 'no timer is left')
  })

  t.test('force may take a tenth of its time, at most a second', async t => {
    const time = virtualTime(t)
    const { durationMs } = await time.until(teardown({ a: { timeout: 60_000, close: never, force: never } }))
    t.equal(durationMs, 61_000)
  })

  t.test('the outcome is the worst of them', async t => {
    t.equal(outcomeOf([]), 'clean')
    t.equal(outcomeOf([{ outcome: 'closed' }, { outcome: 'forced' }]), 'forced')
    t.equal(outcomeOf([{ outcome: 'forced' }, { outcome: 'failed' }]), 'failed')
    t.equal(outcomeOf([{ outcome: 'abandoned' }, { outcome: 'closed' }]), 'failed')
  })

  t.test('whatever is thrown is an error, also what has no string', async t => {
    const time = virtualTime(t)
    const nothing = Object.create(null) as object
    // eslint-disable-next-line no-throw-literal -- that is the point
    const { resources } = await time.until(teardown({ a: { close: () => Promise.reject(nothing) }, b: { close () { throw undefined } } }))
    t.match(byName(resources, 'a'), { outcome: 'failed', error: { cause: nothing } })
    t.match(byName(resources, 'b'), { outcome: 'failed', error: { message: 'A value was thrown that is not an Error: undefined (undefined)' } })
  })

  t.test('a thenable that throws or answers twice costs only itself', async t => {
    const time = virtualTime(t)
    const { resources } = await time.until(teardown({
      below: { close () {} },
      throws: { dependsOn: ['below'], close: () => ({ then () { throw new Error('no promise') } }) as unknown as Promise<void> },
      twice: { dependsOn: ['below'], close: () => ({ then (yes: () => void, no: (error: Error) => void) { yes(); no(new Error('too late')) } }) as Promise<void> }
    }))
    t.same(resources.map(({ outcome }) => outcome), ['closed', 'failed', 'closed'])
  })

  t.test('a close that settles after it was given up changes nothing', async t => {
    const time = virtualTime(t)
    let starts = 0
    const { resources } = await time.until(teardown({ below: { close: () => { starts++; return wait(50) } }, late: { dependsOn: ['below'], timeout: 10, close: () => wait(30) } }))
    t.equal(byName(resources, 'late').outcome, 'abandoned')
    t.equal(starts, 1)
  })

  t.test('the signal aborts at the timeout and says who was late', async t => {
    const time = virtualTime(t)
    let late: AbortSignal | undefined
    let quick: AbortSignal | undefined
    await time.until(teardown({ late: { timeout: 50, close (signal) { late = signal; return never() } }, quick: { timeout: 70, close (signal) { quick = signal } } }))
    t.ok(late?.aborted)
    t.type(late?.reason, ShutdownTimeoutError)
    t.match(late?.reason, { message: "Resource 'late' did not finish in 50 ms" })
    t.notOk(quick?.aborted)
  })

  t.test('a thousand that listen to their signal are no leak', async t => {
    const warnings: Error[] = []
    const warn = (warning: Error): void => { warnings.push(warning) }
    process.on('warning', warn)
    t.teardown(() => process.off('warning', warn))
    await teardown(Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`r${i}`, { close: async (signal: AbortSignal) => { signal.addEventListener('abort', () => {}) } }])))
    await settled()
    t.same(warnings, [])
  })

  t.test('a resource tells more of itself, and cannot break the report', async t => {
    const shared = { leakedClients: 2, buffer: Buffer.from('x') }
    const { resources } = await teardown({
      pool: { close () {}, detail: () => shared },
      broken: { close () {}, detail () { throw new Error('no') } },
      plain: { close () {} }
    })
    t.match(byName(resources, 'pool').detail, { leakedClients: 2 })
    t.notOk(Object.isFrozen(shared), 'its own object stays its own')
    t.notOk('detail' in byName(resources, 'broken'))
    t.notOk('detail' in byName(resources, 'plain'))
  })

  t.test('the result is frozen', async t => {
    const result = await teardown({ a: { close () {} } })
    for (const part of [result, result.resources, result.criticalPath, result.resources[0], result.resources[0]?.waitedFor]) t.ok(Object.isFrozen(part))
  })

  t.end()
})

t.test('random graphs', t => {
  const timeout = 60
  type Way = 'closes' | 'at once' | 'rejects' | 'throws' | 'hangs' | 'hangs, is forced' | 'hangs, force fails' | 'hangs for good'
  const ways: readonly Way[] = ['closes', 'at once', 'rejects', 'throws', 'hangs', 'hangs, is forced', 'hangs, force fails', 'hangs for good']

  interface Node { readonly name: string, readonly uses: readonly string[], readonly way: Way, readonly ms: number }

  /** Node i uses only nodes before it, so there is no circle; then they are shuffled. */
  const graphs = (allowed: readonly Way[]): fc.Arbitrary<Node[]> => fc.array(fc.record({
    seed: fc.array(fc.nat(1_000), { maxLength: 3 }), way: fc.constantFrom(...allowed), ms: fc.integer({ min: 1, max: 50 }), place: fc.nat()
  }), { minLength: 1, maxLength: 14 }).map(drafts => drafts
    .map(({ seed, way, ms, place }, i) => ({ name: `r${i}`, uses: i === 0 ? [] : [...new Set(seed.map(each => `r${each % i}`))], way, ms, place }))
    .sort((a, b) => a.place - b.place))

  const errors = new WeakMap<Node, Error>()
  function toResource (node: Node): Resource {
    const error = new Error(node.name)
    errors.set(node, error)
    const close = (): void | Promise<void> => {
      switch (node.way) {
        case 'closes': return wait(node.ms)
        case 'at once': return undefined
        case 'rejects': return wait(node.ms).then(() => { throw error })
        case 'throws': throw error
        default: return never()
      }
    }
    const force = node.way === 'hangs, is forced' ? () => wait(3) : node.way === 'hangs, force fails' ? () => Promise.reject(error) : node.way === 'hangs for good' ? never : undefined
    return { dependsOn: node.uses, close, ...(force !== undefined && { force }) }
  }

  /** What each has to take. */
  function cost ({ way, ms }: Node): number {
    if (way === 'closes' || way === 'rejects') return ms
    if (way === 'at once' || way === 'throws') return 0
    return timeout + (way === 'hangs, is forced' ? 3 : way === 'hangs for good' ? timeout / 10 : 0)
  }

  const outcomes: Readonly<Record<Way, string>> = {
    closes: 'closed', 'at once': 'closed', rejects: 'failed', throws: 'failed', hangs: 'abandoned', 'hangs, is forced': 'forced', 'hangs, force fails': 'abandoned', 'hangs for good': 'abandoned'
  }

  async function holds (t: Test, allowed: readonly Way[], numRuns: number): Promise<void> {
    const time = virtualTime(t)
    await fc.assert(fc.asyncProperty(graphs(allowed), async nodes => {
      const result = await time.until(teardown(Object.fromEntries(nodes.map(node => [node.name, toResource(node)])), { timeout }))
      const of = new Map(result.resources.map(each => [each.name, each]))
      const end = (name: string): number => of.get(name)!.startedMs + of.get(name)!.durationMs
      if (of.size !== nodes.length) throw new Error('not all are told of')
      for (const node of nodes) {
        const told = of.get(node.name)!
        const dependants = nodes.filter(other => other.uses.includes(node.name)).map(other => other.name)
        const expected = { outcome: outcomes[node.way], startedMs: Math.max(0, ...dependants.map(end)), durationMs: cost(node) }
        const seen = { outcome: told.outcome, startedMs: told.startedMs, durationMs: told.durationMs }
        if (JSON.stringify(seen) !== JSON.stringify(expected)) throw new Error(`${node.name}: ${JSON.stringify(seen)} instead of ${JSON.stringify(expected)}`)
        if (node.way === 'rejects' || node.way === 'throws' || node.way === 'hangs, force fails') {
          if (told.error !== errors.get(node)) throw new Error(`${node.name}: its error is lost`)
        }
        if ((told.error === null) !== (told.outcome === 'closed')) throw new Error(`${node.name}: ${told.outcome} with ${String(told.error)}`)
        if ([...told.waitedFor].sort().join() !== dependants.sort().join()) throw new Error(`${node.name}: waited for ${told.waitedFor.join()}`)
      }
      // The longest chain, computed downward from scratch.
      const longest = new Map<string, number>()
      const chain = (node: Node): number => {
        const known = longest.get(node.name)
        if (known !== undefined) return known
        const length = cost(node) + Math.max(0, ...nodes.filter(other => other.uses.includes(node.name)).map(chain))
        longest.set(node.name, length)
        return length
      }
      const expected = Math.max(...nodes.map(chain))
      if (result.durationMs !== expected) throw new Error(`took ${result.durationMs} instead of ${expected}`)
      const costs = new Map(nodes.map(node => [node.name, cost(node)]))
      const path = result.criticalPath
      if (path.reduce((sum, name) => sum + costs.get(name)!, 0) !== expected) throw new Error(`critical path ${path.join()} does not explain ${expected}`)
      for (const [i, name] of path.entries()) {
        if (i > 0 && !of.get(name)!.waitedFor.includes(path[i - 1]!)) throw new Error(`critical path ${path.join()} is no chain`)
      }
      if (time.armed() !== 0) throw new Error(`${time.armed()} timers are left`)
    }), { numRuns })
    t.pass('as the model says')
  }

  t.test('that close take their longest chain, and none closes before its dependants', t => holds(t, ['closes', 'at once'], 60))
  t.test('in which any may fail or hang: it costs its own time, every error is kept, strangers go on', t => holds(t, ways, 120))
  t.end()
})

t.test('sizes', t => {
  const many = 10_000
  const chain = (close: Resource['close']): Record<string, Resource> => Object.fromEntries(
    Array.from({ length: many }, (_, i) => [`r${i}`, { close: close!, ...(i > 0 && { dependsOn: [`r${i - 1}`] }) }]))

  t.test('a chain of 10 000 does not run out of stack, synchronous, asynchronous or failing', async t => {
    for (const close of [() => {}, async () => {}, () => { throw new Error('no') }]) {
      const { resources, criticalPath } = await teardown(chain(close))
      t.equal(resources.length, many)
      t.equal(criticalPath.length, many)
    }
  })

  t.test('10 000 strangers close together with one that all depend on', async t => {
    const time = virtualTime(t)
    let most = 0
    let open = 0
    const close = async (): Promise<void> => {
      most = Math.max(most, ++open)
      await wait(5)
      open--
    }
    const { durationMs, resources } = await time.until(teardown({
      base: { close },
      ...Object.fromEntries(Array.from({ length: many }, (_, i) => [`r${i}`, { dependsOn: ['base'], close }]))
    }))
    t.equal(most, many)
    t.equal(durationMs, 10)
    t.equal(resources[0]?.waitedFor.length, many)
    t.equal(time.armed(), 0)
  })

  t.test('10 000 that hang are abandoned together', async t => {
    const time = virtualTime(t)
    const { durationMs, outcome } = await time.until(teardown(Object.fromEntries(Array.from({ length: many }, (_, i) => [`r${i}`, { close: never }])), { timeout: 50 }))
    t.equal(durationMs, 50)
    t.equal(outcome, 'failed')
  })

  t.end()
})

t.test('gates', t => {
  const run = (resources: Record<string, Resource>, placed: string[] = [], remaining = (): number => Infinity): ReturnType<typeof createTeardown> =>
    createTeardown(new Map(Object.entries(resources)), { timeout: 100, placed: new Set(placed), remaining })

  t.test('none closes before its gate is open', async t => {
    const time = virtualTime(t)
    const teardown = run({ a: { close: () => wait(10) } }, ['a'])
    await time.pass(50)
    t.same(teardown.inside(), [])
    teardown.open('a')
    t.same(teardown.inside(), ['a'])
    const [a] = await time.until(teardown.finished())
    t.match(a, { startedMs: 50, durationMs: 10 })
  })

  t.test('one with an open gate waits for its dependant', async t => {
    const time = virtualTime(t)
    const teardown = run({ redis: { close: () => wait(10) }, queue: { dependsOn: ['redis'], close: () => wait(10) } }, ['redis', 'queue'])
    teardown.open('redis')
    await time.pass(50)
    t.same(teardown.inside(), [], 'the dependant has a gate of its own, which is shut')
    teardown.open('queue')
    await time.pass(10)
    t.same(teardown.inside(), ['redis'])
    await time.until(teardown.finished())
  })

  t.test('those without a gate of their own close right before what they depend on, at any depth', async t => {
    const time = virtualTime(t)
    const { closes, entries, before } = diary()
    const teardown = run({
      redis: { close: closes('redis') }, queue: { dependsOn: ['redis'], close: closes('queue') }, api: { dependsOn: ['queue'], close: closes('api') }, stranger: { close: closes('stranger') }
    }, ['redis'])
    teardown.open('redis')
    await time.pass(50)
    t.ok(before('api ends', 'queue begins'))
    t.ok(before('queue ends', 'redis begins'))
    t.notOk(entries.includes('stranger begins'), 'the others close last')
    teardown.openAll()
    await time.until(teardown.finished())
    t.ok(entries.includes('stranger ends'))
  })

  t.test('what is last draws nobody forward who only waits for it because it is last', async t => {
    const time = virtualTime(t)
    const { closes, entries, before } = diary()
    const teardown = run({ logs: { last: true, close: closes('logs') }, writer: { dependsOn: ['logs'], close: closes('writer') }, stranger: { close: closes('stranger') } }, ['logs'])
    teardown.open('logs')
    await time.pass(50)
    t.same(entries, ['writer begins', 'writer ends'])
    teardown.openAll()
    await time.until(teardown.finished())
    t.ok(before('stranger ends', 'logs begins'))
  })

  t.test('opened twice, or unknown: no harm', async t => {
    const time = virtualTime(t)
    let closes = 0
    const teardown = run({ a: { close () { closes++ } } })
    teardown.open('b')
    teardown.open('a')
    teardown.open('a')
    teardown.openAll()
    await time.until(teardown.finished())
    t.equal(closes, 1)
  })

  t.test('quiet() waits for those that have started, not for those behind a gate', async t => {
    const time = virtualTime(t)
    const teardown = run({ a: { close: () => wait(10) }, b: { close: () => wait(10) }, below: { close: () => wait(7) }, above: { dependsOn: ['below'], close: () => wait(3) } }, ['a', 'b', 'below', 'above'])
    await teardown.quiet()
    teardown.open('a')
    let quiet = false
    void teardown.quiet().then(() => { quiet = true })
    await time.pass(9)
    t.notOk(quiet)
    await time.pass(1)
    t.ok(quiet)
    quiet = false
    teardown.open('below')
    teardown.open('above')
    void teardown.quiet().then(() => { quiet = true })
    await time.pass(9)
    t.notOk(quiet, 'not between one and the next of a chain')
    await time.pass(1)
    t.ok(quiet)
    teardown.openAll()
    await time.until(teardown.finished())
  })

  t.test('one that is added late closes at once and is told of', async t => {
    const time = virtualTime(t)
    const results: string[] = []
    const late = createTeardown(new Map([['a', { close: () => wait(20) }]]), { timeout: 100, onResult: ({ name }) => results.push(name) })
    late.add('late', { close: () => wait(5) })
    t.same(late.inside(), ['late'])
    late.openAll()
    t.same(names(await time.until(late.finished())), ['a', 'late'])
    t.same(results, ['late', 'a'])
  })

  t.test('one that is added as the last one ends is waited for', async t => {
    const time = virtualTime(t)
    const teardown = run({ a: { close: () => wait(20) } })
    teardown.openAll()
    void teardown.quiet().then(() => teardown.add('late', { close: () => wait(5) }))
    t.same(names(await time.until(teardown.finished())), ['a', 'late'])
  })

  t.test('one that is added in the millisecond in which the others are done has its timeout too', async t => {
    const time = virtualTime(t)
    const teardown = run({ a: { close: async () => {} } })
    teardown.openAll()
    await teardown.finished()
    teardown.add('late', { close: never })
    t.match(byName(await time.until(teardown.finished()), 'late'), { outcome: 'abandoned', durationMs: 100 })
  })

  t.test('one of the name of another that is still closing changes nothing for those below', async t => {
    const time = virtualTime(t)
    const teardown = run({ redis: { close () {} }, queue: { dependsOn: ['redis'], close: () => wait(20) } })
    teardown.openAll()
    teardown.add('queue', { close () {} })
    t.same(names(await time.until(teardown.finished())), ['redis', 'queue', 'queue'])
  })

  t.test('what is left of the budget bounds each, with time to force', async t => {
    const time = virtualTime(t)
    const begin = time.now()
    const teardown = run({
      a: { timeout: 1_000, close: never, force: never },
      b: { dependsOn: ['a'], close: never, force: () => {} },
      c: { dependsOn: ['b'], timeout: 50, close: never, force: never }
    }, [], () => Math.max(0, begin + 120 - time.now()))
    teardown.openAll()
    const results = await time.until(teardown.finished())
    t.same(results.map(({ outcome }) => outcome), ['abandoned', 'forced', 'abandoned'])
    t.match(byName(results, 'c'), { startedMs: 0, durationMs: 55 })
    t.match(byName(results, 'b'), { startedMs: 55, durationMs: 55 })
    t.match(byName(results, 'a'), { startedMs: 110 })
    t.ok(time.now() - begin <= 122, 'the budget holds: a timer takes at least a millisecond')
    t.equal(time.armed(), 0)
  })

  t.end()
})

t.test('teardown() without a server', t => {
  t.test('of nothing is clean', async t => {
    t.match(await teardown({}), { outcome: 'clean', resources: [], criticalPath: [] })
  })

  t.test('takes disposables, and plain ones with what they depend on', async t => {
    const closed: string[] = []
    class Pool implements AsyncDisposable {
      readonly settings = {}
      async [Symbol.asyncDispose] (): Promise<void> { closed.push('pool') }
    }
    await teardown({
      pool: new Pool(),
      file: { [Symbol.dispose]: () => { closed.push('file') } },
      cache: { dependsOn: ['pool'], [Symbol.asyncDispose]: async () => { closed.push('cache') } }
    })
    t.ok(closed.indexOf('cache') < closed.indexOf('pool'))
    t.ok(closed.includes('file'))
  })

  t.test('calls the methods of an instance on the instance', async t => {
    class Cache {
      #open = true
      readonly dependsOn = []
      get isOpen (): boolean { return this.#open }
      close (): void { this.#open = false }
    }
    const cache = new Cache()
    await teardown({ cache })
    t.notOk(cache.isOpen)
  })

  t.test('takes known clients through their adapters', async t => {
    const client = { ended: false }
    const { resources } = await teardown({ db: { client }, api: { dependsOn: ['db'], close () {} } }, {}, given => ({ close () { (given as typeof client).ended = true } }))
    t.ok(client.ended)
    t.same(byName(resources, 'db').waitedFor, ['api'])
  })

  t.test('refuses what cannot be, and closes nothing', async t => {
    let closed = false
    const ok = { close () { closed = true } }
    await t.rejects(() => teardown({ ok, b: { dependsOn: ['okk'], close () {} } }), { code: 'FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY' })
    await t.rejects(() => teardown({ ok, b: { dependsOn: ['c'], close () {} }, c: { dependsOn: ['b'], close () {} } }), { code: 'FST_ERR_SHUTDOWN_CIRCULAR_DEPENDENCY' })
    await t.rejects(() => teardown({ ok, b: { dependsOn: ['ok'] } }), { code: 'FST_ERR_SHUTDOWN_RESOURCE', message: "Resource 'b' has no 'close'" })
    await t.rejects(() => teardown({ ok, b: (() => {}) as never }), { code: 'FST_ERR_SHUTDOWN_RESOURCE', message: "Expected resource 'b' to be an object, got b (function)" })
    await t.rejects(() => teardown([ok] as never), { code: 'FST_ERR_SHUTDOWN_RESOURCE', message: /got \[\{\}\] \(array\)/ })
    await t.rejects(() => teardown(null as never), { code: 'FST_ERR_SHUTDOWN_RESOURCE', message: /got null \(null\)/ })
    for (const timeout of [Infinity, NaN, 0, -1, '10s', 2 ** 31]) {
      await t.rejects(() => teardown({ ok }, { timeout: timeout as number }), { code: 'FST_ERR_SHUTDOWN_OPTION', message: /^Expected 'timeout' to be a number of milliseconds from 1 to 2147483647, got / })
    }
    t.notOk(closed)
  })

  t.end()
})

t.test('registry', t => {
  const adapt = (): Resource => ({ close: () => {}, timeout: 7 })
  const registry = (declared = {}): ReturnType<typeof createRegistry> => createRegistry(declared, adapt)
  const close = (): void => {}

  t.test('refuses names that reach a prototype, and empty ones', async t => {
    for (const name of ['__proto__', 'constructor', 'prototype', '', 5]) {
      t.throws(() => registry().add(name as string, { close }, false), { code: 'FST_ERR_SHUTDOWN_RESOURCE', message: /^Expected a resource's name to be a non-empty string other than/ })
    }
    t.throws(() => registry(JSON.parse('{"__proto__":{"dependsOn":[]}}') as object), { code: 'FST_ERR_SHUTDOWN_RESOURCE' })
  })

  t.test('refuses a name twice', async t => {
    const one = registry({ db: { close } })
    t.throws(() => one.add('db', { close }, false), { code: 'FST_ERR_SHUTDOWN_DUPLICATE_RESOURCE', message: "Resource 'db' is already registered" })
  })

  t.test('refuses fields of the wrong type, with what came', async t => {
    const bad: [object, RegExp][] = [
      [{ close: 'quit' }, /Expected 'close' of resource 'db' to be a function, got 'quit' \(string\)/],
      [{ pause: 1 }, /Expected 'pause' of resource 'db' to be a function, got 1 \(number\)/],
      [{ force: {} }, /'force'.*got \{\} \(object\)/],
      [{ detail: true }, /'detail'.*got true \(boolean\)/],
      [{ last: 1 }, /Expected 'last' of resource 'db' to be a boolean/],
      [{ timeout: '3s' }, /Expected 'timeout' of resource 'db' to be a positive number of milliseconds, got '3s' \(string\)/],
      [{ timeout: 0 }, /got 0 \(number\)/], [{ timeout: NaN }, /got NaN \(number\)/], [{ timeout: 2 ** 31 }, /'timeout'/],
      [{ dependsOn: 'redis' }, /Expected 'dependsOn' of resource 'db' to be a list of names, got 'redis' \(string\)/],
      [{ dependsOn: [1] }, /got \[1\] \(array\)/],
      [{ client: 'pg' }, /Expected 'client' of resource 'db' to be a client, got 'pg' \(string\)/],
      [{ close, dependOn: [] }, /Resource 'db' has an unknown field 'dependOn'. Did you mean 'dependsOn'\?/]
    ]
    for (const [input, message] of bad) t.throws(() => registry({ db: input }), { code: 'FST_ERR_SHUTDOWN_RESOURCE', message })
  })

  t.test('refuses when sealed what the graph refuses, and forgets it again', async t => {
    const one = registry({ db: { dependsOn: ['cach'], close } })
    one.add('cache', { close }, false)
    t.throws(() => one.seal(), { code: 'FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY', message: /Did you mean 'cache'/ })
    const other = registry({ db: { close } })
    other.seal()
    t.throws(() => other.add('queue', { dependsOn: ['redis'], close }, false), { code: 'FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY' })
    t.notOk(other.all.has('queue'))
    t.doesNotThrow(() => other.add('queue', { dependsOn: ['db'], close }, false))
  })

  t.test('refuses a mere name that nobody brought a client for, and one with nothing but force', async t => {
    for (const resource of [{ dependsOn: [] }, { timeout: 5 }, { force: close }]) {
      t.throws(() => registry({ redis: resource }).seal(), { code: 'FST_ERR_SHUTDOWN_RESOURCE', message: /^Resource 'redis' has no 'close', and no plugin brought a client/ })
    }
    t.doesNotThrow(() => registry({ worker: { pause: close } }).seal())
  })

  t.test('what the user said counts before what a plugin or a client brought; undefined is nothing said', async t => {
    const one = registry({ redis: { timeout: 5, close: undefined }, db: { client: {}, timeout: 9, close: undefined }, plain: { client: {} } })
    one.adopt('redis', { close, timeout: 99 })
    one.seal()
    t.match(one.all.get('redis'), { timeout: 5, close })
    t.match(one.all.get('db'), { timeout: 9, close: Function })
    t.notOk('client' in one.all.get('db')!)
    t.equal(one.all.get('plain')?.timeout, 7)
    t.same([...one.placed], ['redis'])
  })

  t.test('undo may be called twice, and does not take away another of that name', async t => {
    const one = registry()
    const undo = one.add('db', { close }, true)
    t.ok(one.placed.has('db'))
    undo()
    t.notOk(one.all.has('db'))
    t.notOk(one.placed.has('db'))
    one.add('db', { close }, false)
    undo()
    t.ok(one.all.has('db'))
  })

  t.test('what is taken away is waited for no more, until it comes back', async t => {
    const one = registry({ queue: { dependsOn: ['redis', 'db'], close }, db: { close } })
    const undo = one.add('redis', { close }, false)
    const undoOther = one.add('other', { dependsOn: ['redis'], close }, false)
    one.seal()
    undo()
    t.same(one.all.get('queue')?.dependsOn, ['db'])
    t.doesNotThrow(() => planGraph(one.all))
    one.add('redis', { close }, false)
    t.same(one.all.get('queue')?.dependsOn, ['redis', 'db'])
    undoOther()
    t.notOk(one.all.has('other'), 'its own undo still works')
  })

  t.test('an instance keeps its methods when what it depends on is taken away, or a plugin brings more', async t => {
    class Queue {
      readonly dependsOn = ['redis']
      #open = true
      get isOpen (): boolean { return this.#open }
      close (): void { this.#open = false }
    }
    const queues = [new Queue(), new Queue()] as const
    const one = registry({ a: queues[0], b: queues[1] })
    const undo = one.add('redis', { close }, false)
    one.adopt('b', { close, timeout: 5 })
    undo()
    for (const name of ['a', 'b']) void one.all.get(name)?.close?.(new AbortController().signal)
    t.same(queues.map(queue => queue.isOpen), [false, false])
  })

  t.test('what comes back with a circle is refused', async t => {
    const one = registry({ a: { dependsOn: ['b'], close } })
    const undo = one.add('b', { close }, false)
    one.seal()
    undo()
    t.throws(() => one.add('b', { dependsOn: ['a'], close }, false), { code: 'FST_ERR_SHUTDOWN_CIRCULAR_DEPENDENCY' })
    t.doesNotThrow(() => planGraph(one.all))
  })

  t.test('the undo of one that was adopted takes it away', async t => {
    const one = registry()
    const undo = one.add('redis', { timeout: 5 }, true)
    one.adopt('redis', { close })
    undo()
    t.notOk(one.all.has('redis'))
  })

  t.end()
})
