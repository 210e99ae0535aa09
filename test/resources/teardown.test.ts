/** The order and the outcomes of a teardown, in virtual time. Random graphs are compared with a small model. */
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { ShutdownTimeoutError } from '../../lib/errors'
import { createTeardown, teardown } from '../../lib/resources/teardown'
import type { Resource, ResourceResult } from '../../types/index'
import { settled, virtualTime } from '../helpers/time'
import { timed } from '../helpers/timed'

const wait = (ms: number): Promise<void> => new Promise(resolve => { setTimeout(resolve, ms) })
const never = (): Promise<void> => new Promise(() => {})
const names = (results: readonly ResourceResult[]): string[] => results.map(({ name }) => name)

/** Makes `close` functions that record when they begin and end. */
function recorder (): { entries: string[], closes (name: string, ms?: number): () => Promise<void>, before (first: string, second: string): boolean } {
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

t.test('order', t => {
  t.test('noneClosing() also waits for a resource that is about to start, even after one that closes at once', async t => {
    const time = virtualTime(t)
    const run = createTeardown(Object.entries({
      first: { close: () => wait(20), dependsOn: ['second', 'fourth'] },
      second: { close () {}, dependsOn: ['third'] },
      third: { close: () => wait(20) },
      fourth: { close: () => wait(20) }
    }), { timeout: 1_000 })
    run.allowAll()
    let closing: string[] | null = null
    await time.until(run.noneClosing().then(() => { closing = run.pending() }))
    t.strictSame(closing, [])
  })

  t.test('a resource closes after everything that depends on it, in whichever order they are declared', async t => {
    const time = virtualTime(t)
    const { closes, before } = recorder()
    await time.until(teardown({
      postgres: { close: closes('postgres') },
      worker: { dependsOn: ['redis', 'postgres'], close: closes('worker', 30) },
      redis: { dependsOn: ['postgres'], close: closes('redis', 20) }
    }))
    t.ok(before('worker ends', 'redis begins'))
    t.ok(before('redis ends', 'postgres begins'))
  })

  t.test('resources that do not depend on each other close in parallel, and each starts as soon as its last dependant has closed', async t => {
    const time = virtualTime(t)
    const { resources, durationMs } = await time.until(teardown({
      a: { close: () => wait(100) },
      b: { dependsOn: ['a'], close: () => wait(50) },
      c: { dependsOn: ['a'], close: () => wait(80) },
      d: { close: () => wait(70) }
    }))
    t.equal(byName(resources, 'a').startedMs, 80, 'it does not start when the first dependant has closed')
    t.equal(byName(resources, 'd').startedMs, 0)
    t.equal(durationMs, 180)
    t.same(byName(resources, 'a').waitedFor, ['b', 'c'])
  })

  t.test('options of the wrong type are refused with expected and received', async t => {
    for (const [options, message] of [
      [null, "Expected 'options' to be an object, got null (null)"], [5_000, "Expected 'options' to be an object, got 5000 (number)"],
      [[], "Expected 'options' to be an object, got [] (array)"], [{ timout: 5 }, "'timout' is not an option. Did you mean 'timeout'?"],
      [{ timeout: 2 ** 31 - 0.5 }, "Expected 'timeout' to be a number of milliseconds from 1 to 2147483647, got 2147483647.5 (number)"]
    ]) await t.rejects(teardown({}, options as object), { code: 'FST_ERR_SHUTDOWN_OPTION', message })
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

  t.test('a resource that is last closes after all others', async t => {
    const time = virtualTime(t)
    const { closes, before } = recorder()
    await time.until(teardown({ logs: { last: true, close: closes('logs') }, slow: { close: closes('slow', 50) }, other: { close: closes('other') } }))
    t.ok(before('slow ends', 'logs begins'))
    t.ok(before('other ends', 'logs begins'))
  })

  t.test('the moment right before the first resource that is last closes is reported once, and not if none is last', async t => {
    const time = virtualTime(t)
    const { entries, closes } = recorder()
    const run = (resources: Record<string, Resource>): ReturnType<typeof createTeardown> => {
      const teardown = createTeardown(Object.entries(resources), {
        timeout: 100, onLastResources: (names, atMs) => { entries.push(`${names.join(' and ')} at ${atMs}`) }
      })
      teardown.allowAll()
      return teardown
    }
    const both = { logs: { last: true, close: closes('logs') }, traces: { last: true, close: closes('traces') }, other: { close: closes('other', 20) } }
    const teardown = run(both)
    await time.until(teardown.finished())
    teardown.add('late', { last: true, close: closes('late') })
    await time.until(teardown.finished())
    t.same(entries.slice(0, 5), ['other begins', 'other ends', 'logs and traces at 20', 'logs begins', 'traces begins'])
    await time.until(run({ logs: { close: closes('logs') } }).finished())
    t.equal(entries.filter(entry => entry.includes(' at ')).length, 1)
  })

  t.test('resources that are last wait for each other, and the critical path leads through them', async t => {
    const time = virtualTime(t)
    const { criticalPath, resources, durationMs } = await time.until(teardown({
      logs: { last: true, close: () => wait(10) },
      traces: { last: true, dependsOn: ['logs'], close: () => wait(10) },
      api: { dependsOn: ['logs'], close: () => wait(30) },
      cache: { close: () => wait(20) }
    }))
    t.same(criticalPath, ['api', 'traces', 'logs'])
    t.equal(durationMs, 50)
    t.same(byName(resources, 'traces').waitedFor, ['api', 'cache'])
    t.same(byName(resources, 'logs').waitedFor, ['traces', 'api', 'cache'])
  })

  t.test('1 000 resources that are last beside 10 000 others need no time for each pair', async t => {
    const make = (count: number, prefix: string, of: (i: number) => Resource): [string, Resource][] =>
      Array.from({ length: count }, (_, i) => [`${prefix}${i}`, { close () {}, ...of(i) }])
    const all = Object.fromEntries([...make(1_000, 'last', () => ({ last: true })), ...make(10_000, 'other', i => ({ dependsOn: i > 0 ? ['other0'] : [] }))])
    const { took, lost } = await timed(async () => { t.equal((await teardown(all)).outcome, 'clean') })
    t.ok(took - lost < 2_000, `${took} ms`)
  })

  t.end()
})

t.test('outcomes', t => {
  t.test('each outcome has its duration and its error: closed, failed, forced, abandoned', async t => {
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
    const seen = Object.fromEntries(resources.map(({ name, outcome, durationMs, error }) => [name, [outcome, durationMs, error?.message ?? null]]))
    t.same(seen, {
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

  t.test('force may take a tenth of the timeout, at most one second', async t => {
    const time = virtualTime(t)
    const { durationMs } = await time.until(teardown({ a: { timeout: 60_000, close: never, force: never } }))
    t.equal(durationMs, 61_000)
  })

  t.test('a thrown value becomes an error, also one that cannot become a string', async t => {
    const time = virtualTime(t)
    const nothing = Object.create(null) as object
    // eslint-disable-next-line no-throw-literal -- that is the point
    const { resources } = await time.until(teardown({ a: { close: () => Promise.reject(nothing) }, b: { close () { throw undefined } } }))
    t.match(byName(resources, 'a'), { outcome: 'failed', error: { cause: nothing } })
    t.match(byName(resources, 'b'), { outcome: 'failed', error: { message: 'A value was thrown that is not an Error: undefined (undefined)' } })
  })

  t.test('a thenable that throws or settles twice affects no other resource', async t => {
    const time = virtualTime(t)
    const { resources } = await time.until(teardown({
      below: { close () {} },
      throws: { dependsOn: ['below'], close: () => ({ then () { throw new Error('no promise') } }) as unknown as Promise<void> },
      twice: { dependsOn: ['below'], close: () => ({ then (yes: () => void, no: (error: Error) => void) { yes(); no(new Error('too late')) } }) as Promise<void> }
    }))
    t.same(resources.map(({ outcome }) => outcome), ['closed', 'failed', 'closed'])
  })

  t.test('a close that settles after its resource was abandoned changes nothing', async t => {
    const time = virtualTime(t)
    let starts = 0
    const { resources } = await time.until(teardown({ below: { close: () => { starts++; return wait(50) } }, late: { dependsOn: ['below'], timeout: 10, close: () => wait(30) } }))
    t.equal(byName(resources, 'late').outcome, 'abandoned')
    t.equal(starts, 1)
  })

  t.test('the signal aborts at the timeout, and its reason names the resource', async t => {
    const time = virtualTime(t)
    let late: AbortSignal | undefined
    let quick: AbortSignal | undefined
    await time.until(teardown({ late: { timeout: 50, close (signal) { late = signal; return never() } }, quick: { timeout: 70, close (signal) { quick = signal } } }))
    t.ok(late?.aborted)
    t.type(late?.reason, ShutdownTimeoutError)
    t.match(late?.reason, { message: "Resource 'late' did not finish in 50 ms" })
    t.notOk(quick?.aborted)
  })

  t.test('a thousand resources that listen to their signal cause no warning about a leak', async t => {
    const warnings: Error[] = []
    const warn = (warning: Error): void => { warnings.push(warning) }
    process.on('warning', warn)
    t.teardown(() => process.off('warning', warn))
    await teardown(Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`r${i}`, { close: async (signal: AbortSignal) => { signal.addEventListener('abort', () => {}) } }])))
    await settled()
    t.same(warnings, [])
  })

  t.test('the detail of a resource is in its result, and a detail that throws is left out', async t => {
    const shared = { leakedClients: 2, buffer: Buffer.from('x') }
    const { resources } = await teardown({
      pool: { close () {}, detail: () => shared },
      broken: { close () {}, detail () { throw new Error('no') } },
      plain: { close () {} }
    })
    t.match(byName(resources, 'pool').detail, { leakedClients: 2 })
    t.notOk(Object.isFrozen(shared), 'the object of the resource is copied')
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
      if (of.size !== nodes.length) throw new Error('a result is missing')
      for (const node of nodes) {
        const result = of.get(node.name)!
        const dependants = nodes.filter(other => other.uses.includes(node.name)).map(other => other.name)
        const expected = { outcome: outcomes[node.way], startedMs: Math.max(0, ...dependants.map(end)), durationMs: cost(node) }
        const seen = { outcome: result.outcome, startedMs: result.startedMs, durationMs: result.durationMs }
        if (JSON.stringify(seen) !== JSON.stringify(expected)) throw new Error(`${node.name}: ${JSON.stringify(seen)} instead of ${JSON.stringify(expected)}`)
        if (node.way === 'rejects' || node.way === 'throws' || node.way === 'hangs, force fails') {
          if (result.error !== errors.get(node)) throw new Error(`${node.name}: its error is lost`)
        }
        if ((result.error === null) !== (result.outcome === 'closed')) throw new Error(`${node.name}: ${result.outcome} with ${String(result.error)}`)
        if ([...result.waitedFor].sort().join() !== dependants.sort().join()) throw new Error(`${node.name}: waited for ${result.waitedFor.join()}`)
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
    t.pass('equal to the model')
  }

  t.test('a graph whose resources all close takes as long as its longest chain, and none closes before its dependants', t => holds(t, ['closes', 'at once'], 60))
  t.test('a resource that fails or hangs costs its own time, its error is kept, and the others close', t => holds(t, ways, 120))
  t.end()
})

t.test('sizes', t => {
  const many = 10_000
  const chain = (close: Resource['close']): Record<string, Resource> => Object.fromEntries(
    Array.from({ length: many }, (_, i) => [`r${i}`, { close: close!, ...(i > 0 && { dependsOn: [`r${i - 1}`] }) }]))

  t.test('a chain of 10 000 does not overflow the stack if every close is synchronous, asynchronous or failing', async t => {
    for (const close of [() => {}, async () => {}, () => { throw new Error('no') }]) {
      const { resources, criticalPath } = await teardown(chain(close))
      t.equal(resources.length, many)
      t.equal(criticalPath.length, many)
    }
  })

  t.test('10 000 resources close in parallel, and then the one that they all depend on', async t => {
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

  t.test('10 000 resources that hang are abandoned together', async t => {
    const time = virtualTime(t)
    const { durationMs, outcome } = await time.until(teardown(Object.fromEntries(Array.from({ length: many }, (_, i) => [`r${i}`, { close: never }])), { timeout: 50 }))
    t.equal(durationMs, 50)
    t.equal(outcome, 'failed')
  })

  t.end()
})

t.test('positions', t => {
  const run = (resources: Record<string, Resource>, positioned: string[] = [], remaining = (): number => Infinity): ReturnType<typeof createTeardown> =>
    createTeardown(new Map(Object.entries(resources)), { timeout: 100, positioned: new Set(positioned), remaining })

  t.test('no resource closes before it is allowed to', async t => {
    const time = virtualTime(t)
    const teardown = run({ a: { close: () => wait(10) } }, ['a'])
    await time.pass(50)
    t.same(teardown.pending(), [])
    teardown.allow('a')
    t.same(teardown.pending(), ['a'])
    const [a] = await time.until(teardown.finished())
    t.match(a, { startedMs: 50, durationMs: 10 })
  })

  t.test('a resource that is allowed to close waits for its dependant', async t => {
    const time = virtualTime(t)
    const teardown = run({ redis: { close: () => wait(10) }, queue: { dependsOn: ['redis'], close: () => wait(10) } }, ['redis', 'queue'])
    teardown.allow('redis')
    await time.pass(50)
    t.same(teardown.pending(), [], 'the dependant has a position of its own, which is not reached')
    teardown.allow('queue')
    await time.pass(10)
    t.same(teardown.pending(), ['redis'])
    await time.until(teardown.finished())
  })

  t.test('dependants without a position close right before what they depend on, at any depth', async t => {
    const time = virtualTime(t)
    const { closes, entries, before } = recorder()
    const teardown = run({
      redis: { close: closes('redis') }, queue: { dependsOn: ['redis'], close: closes('queue') }, api: { dependsOn: ['queue'], close: closes('api') }, other: { close: closes('other') }
    }, ['redis'])
    teardown.allow('redis')
    await time.pass(50)
    t.ok(before('api ends', 'queue begins'))
    t.ok(before('queue ends', 'redis begins'))
    t.notOk(entries.includes('other begins'), 'the others close last')
    teardown.allowAll()
    await time.until(teardown.finished())
    t.ok(entries.includes('other ends'))
  })

  t.test('allowing a resource that is last allows only the dependants that name it', async t => {
    const time = virtualTime(t)
    const { closes, entries, before } = recorder()
    const teardown = run({ logs: { last: true, close: closes('logs') }, writer: { dependsOn: ['logs'], close: closes('writer') }, other: { close: closes('other') } }, ['logs'])
    teardown.allow('logs')
    await time.pass(50)
    t.same(entries, ['writer begins', 'writer ends'])
    teardown.allowAll()
    await time.until(teardown.finished())
    t.ok(before('other ends', 'logs begins'))
  })

  t.test('allowing a resource twice, or one that is unknown, changes nothing', async t => {
    const time = virtualTime(t)
    let closes = 0
    const teardown = run({ a: { close () { closes++ } } })
    teardown.allow('b')
    teardown.allow('a')
    teardown.allow('a')
    teardown.allowAll()
    await time.until(teardown.finished())
    t.equal(closes, 1)
  })

  t.test('noneClosing() waits for resources that have started, not for those that are held', async t => {
    const time = virtualTime(t)
    const teardown = run({ a: { close: () => wait(10) }, b: { close: () => wait(10) }, below: { close: () => wait(7) }, above: { dependsOn: ['below'], close: () => wait(3) } }, ['a', 'b', 'below', 'above'])
    await teardown.noneClosing()
    teardown.allow('a')
    let isIdle = false
    void teardown.noneClosing().then(() => { isIdle = true })
    await time.pass(9)
    t.notOk(isIdle)
    await time.pass(1)
    t.ok(isIdle)
    isIdle = false
    teardown.allow('below')
    teardown.allow('above')
    void teardown.noneClosing().then(() => { isIdle = true })
    await time.pass(9)
    t.notOk(isIdle, 'a chain is not over between two of its resources')
    await time.pass(1)
    t.ok(isIdle)
    teardown.allowAll()
    await time.until(teardown.finished())
  })

  t.test('a resource that is added late closes at once and has a result', async t => {
    const time = virtualTime(t)
    const results: string[] = []
    const late = createTeardown(new Map([['a', { close: () => wait(20) }]]), { timeout: 100, onResult: ({ name }) => results.push(name) })
    late.add('late', { close: () => wait(5) })
    t.same(late.pending(), ['late'])
    late.allowAll()
    t.same(names(await time.until(late.finished())), ['a', 'late'])
    t.same(results, ['late', 'a'])
  })

  t.test('finished() waits for a resource that is added while the last one ends', async t => {
    const time = virtualTime(t)
    const teardown = createTeardown([['a', { close: () => wait(20) }]], {
      timeout: 100,
      onResult ({ name }) {
        if (name === 'a') queueMicrotask(() => teardown.add('late', { close: () => wait(5) }))
      }
    })
    teardown.allowAll()
    t.same(names(await time.until(teardown.finished())), ['a', 'late'])
  })

  t.test('the hooks of a plugin do not wait for a resource that is added late, and is the first one that uses it', async t => {
    const time = virtualTime(t)
    // The registry adds the plugin to this set.
    const plugins = new Set<string>()
    const teardown = createTeardown([['a', { close: () => wait(20) }]], { timeout: 100, plugins })
    plugins.add('p')
    teardown.add('late', { dependsOn: ['p'], close: () => wait(50) })
    await time.until(teardown.closeDependantsOf('p'))
    t.same(teardown.pending(), ['late'])
  })

  t.test('a last resource that uses a plugin closes before its hooks, so all others close before it', async t => {
    const time = virtualTime(t)
    const resources: [string, Resource][] = [
      ['p', { close () {} }],
      ['logs', { last: true, dependsOn: ['p'], close: () => wait(20) }],
      ['other', { close: () => wait(10) }]
    ]
    const teardown = createTeardown(resources, { timeout: 100, plugins: new Set(['p']), positioned: new Set(['p']) })
    await time.until(teardown.closeDependantsOf('p'))
    t.ok(teardown.isSettled())
    t.same(names(await teardown.finished()), ['logs', 'other'])
  })

  t.test('a resource that is added in the millisecond in which the others end has its own timeout', async t => {
    const time = virtualTime(t)
    const teardown = run({ a: { close: async () => {} } })
    teardown.allowAll()
    await teardown.finished()
    teardown.add('late', { close: never })
    t.match(byName(await time.until(teardown.finished()), 'late'), { outcome: 'abandoned', durationMs: 100 })
  })

  t.test('a late resource with the name of one that is closing does not start the dependencies of that one', async t => {
    const time = virtualTime(t)
    const teardown = run({ redis: { close () {} }, queue: { dependsOn: ['redis'], close: () => wait(20) } })
    teardown.allowAll()
    teardown.add('queue', { close () {} })
    t.same(names(await time.until(teardown.finished())), ['redis', 'queue', 'queue'])
  })

  t.test('what is left of the shutdown limits each resource, and leaves time for force', async t => {
    const time = virtualTime(t)
    const begin = time.now()
    const teardown = run({
      a: { timeout: 1_000, close: never, force: never },
      b: { dependsOn: ['a'], close: never, force: () => {} },
      c: { dependsOn: ['b'], timeout: 50, close: never, force: never }
    }, [], () => Math.max(0, begin + 120 - time.now()))
    teardown.allowAll()
    const results = await time.until(teardown.finished())
    t.same(results.map(({ outcome }) => outcome), ['abandoned', 'forced', 'abandoned'])
    t.match(byName(results, 'c'), { startedMs: 0, durationMs: 55 })
    t.match(byName(results, 'b'), { startedMs: 55, durationMs: 55 })
    t.match(byName(results, 'a'), { startedMs: 110 })
    t.ok(time.now() - begin <= 122, 'the limit holds: a timer takes at least one millisecond')
    t.equal(time.armed(), 0)
  })

  t.end()
})

t.test('teardown() without a server', t => {
  t.test('without resources the outcome is clean', async t => {
    t.match(await teardown({}), { outcome: 'clean', resources: [], criticalPath: [] })
  })

  t.test('accepts disposables, and plain ones with dependsOn', async t => {
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

  t.test('calls the methods of a class instance on the instance', async t => {
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

  t.test('closes a known client through its adapter', async t => {
    const calls: string[] = []
    // The structure of an OpenTelemetry provider.
    const client = { getTracer: () => {}, forceFlush: async () => { calls.push('forceFlush') }, shutdown: async () => { calls.push('shutdown') } }
    const { resources } = await teardown({ traces: { client }, api: { dependsOn: ['traces'], close () { calls.push('api') } } })
    t.same(calls, ['api', 'forceFlush', 'shutdown'])
    t.same(byName(resources, 'traces').waitedFor, ['api'])
  })

  t.test('refuses invalid resources and options, and closes nothing', async t => {
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
