/** The story of a shutdown, with parts that are made up, in virtual time. */
import t, { type Test } from 'tap'
import { createCoordinator, type Coordinator, type Parts } from '../../lib/lifecycle/coordinator'
import { after, every, startDeadline, within } from '../../lib/util/time'
import type { Drain } from '../../lib/http/drains/drain'
import { createEvents } from '../../lib/lifecycle/events'
import { createPhaseLine } from '../../lib/lifecycle/phases'
import type { Story } from '../../lib/lifecycle/report'
import { createTasks } from '../../lib/lifecycle/tasks'
import type { Teardown } from '../../lib/resources/teardown'
import type { Outcome, Resource, ShutdownEvent, ShutdownReason } from '../../types/index'
import { settled, virtualTime, type Time } from '../helpers/time'

const wait = (ms: number): Promise<void> => new Promise(resolve => { setTimeout(resolve, ms) })
const never = (): Promise<void> => new Promise(() => {})
const forever = 10 ** 7
const signal: ShutdownReason = { kind: 'signal', detail: 'SIGTERM' }
const timeouts = { requests: 30_000, streams: 10_000, tasks: 10_000, resources: 10_000, total: 60_000 }

interface Stage {
  readonly coordinator: Coordinator
  readonly parts: Parts
  readonly time: Time
  /** What happened, each with its millisecond. */
  readonly log: string[]
  readonly events: ShutdownEvent[]
  at (entry: string): number
  before (first: string, second: string): boolean
  /** Play it to its end; `hooks` are what the app has to say between draining and its end. */
  play (reason?: ShutdownReason, hooks?: (teardown: Teardown) => Promise<void>): Promise<Story>
}

/** A drain whose last comes in after `takes` milliseconds. */
interface Cast {
  readonly drains?: Readonly<Record<string, { takes: number, timeout: number }>>
  readonly resources?: Record<string, Resource>
  readonly tasks?: Readonly<Record<string, () => Promise<unknown>>>
  readonly connections?: number
}

function set (t: Test, cast: Cast = {}, overrides: Partial<Parts> = {}): Stage {
  const time = virtualTime(t)
  const begin = time.now()
  const log: string[] = []
  const seen: ShutdownEvent[] = []
  const note = (entry: string): void => { log.push(`${time.now() - begin} ${entry}`) }
  const events = createEvents()
  events.listen(event => {
    seen.push(event)
    if (event.type === 'phase') note(event.phase)
  })
  const abort = new AbortController()
  abort.signal.addEventListener('abort', () => note('abort'))
  const tasks = createTasks(abort.signal, () => {})
  const drains = Object.entries(cast.drains ?? {}).map(([name, { takes, timeout }]): Drain => {
    let inside = true
    return {
      name,
      timeout,
      discourage: ms => note(`${name} discouraged over ${ms}`),
      tell: () => note(`${name} told`),
      async drain (ms) {
        note(`${name} has ${ms}`)
        await wait(Math.min(takes, ms))
        inside = false
        note(`${name} in`)
        return takes <= ms ? 'clean' : 'forced'
      },
      inside: () => inside ? [name] : []
    }
  })
  const resources = new Map(Object.entries(cast.resources ?? {}))
  const parts: Parts = {
    phase: createPhaseLine(() => {}),
    events,
    delay: 0,
    timeouts,
    listening: () => true,
    refusing: () => false,
    async stopListening () { note('listens no more') },
    async hearLast () { note('hears the last') },
    abort,
    drains,
    tasks,
    async endConnections (ms): Promise<Outcome> {
      note(`connections have ${ms}`)
      await wait(Math.min(cast.connections ?? 1, ms))
      return (cast.connections ?? 1) <= ms ? 'clean' : 'forced'
    },
    hooks: () => [],
    resources: () => resources,
    placed: () => new Set(),
    ...overrides
  }
  const coordinator = createCoordinator(parts)
  for (const [name, work] of Object.entries(cast.tasks ?? {})) void tasks.run(name, work).catch(() => {})
  const find = (entry: string): string | undefined => log.find(line => line.slice(line.indexOf(' ') + 1) === entry)
  return {
    coordinator,
    parts,
    time,
    log,
    events: seen,
    at: entry => Number.parseInt(find(entry) ?? 'NaN'),
    before: (first, second) => find(first) !== undefined && find(second) !== undefined && log.indexOf(find(first)!) < log.indexOf(find(second)!),
    play (reason = signal, hooks = async () => {}) {
      void coordinator.drained(reason).then(async teardown => {
        await hooks(teardown)
        coordinator.serverGone()
      })
      return time.until(coordinator.shutDown(reason))
    }
  }
}

t.test('phases', t => {
  t.test('follow each other, each with its start and its length', async t => {
    const { play } = set(t, { drains: { requests: { takes: 300, timeout: 30_000 } }, resources: { db: { close: () => wait(20) } } }, { delay: 5_000 })
    const story = await play()
    t.same(story.phases, [
      { phase: 'lame-duck', startedMs: 0, durationMs: 5_000, outcome: 'clean' },
      { phase: 'draining', startedMs: 5_000, durationMs: 301, outcome: 'clean' },
      { phase: 'cleaning', startedMs: 5_301, durationMs: 20, outcome: 'clean' },
      { phase: 'shutdown', startedMs: 5_321, durationMs: 0, outcome: 'clean' }
    ])
    t.match(story, { reason: signal, durationMs: 5_321, criticalPath: ['db'], hooks: [] })
    t.equal(story.startedAt.getTime(), 1)
  })

  t.test('are told as events', async t => {
    const { play, events } = set(t, {}, { delay: 100 })
    await play()
    t.match(events.filter(({ type }) => type === 'phase'), [
      { phase: 'lame-duck', previous: 'running', reason: signal, atMs: 0 }, { phase: 'draining', previous: 'lame-duck', atMs: 100 },
      { phase: 'cleaning', previous: 'draining' }, { phase: 'shutdown', previous: 'cleaning' }
    ])
  })

  t.test('lame-duck is for all but a plain close(), where there is a delay and somebody to see it', async t => {
    for (const kind of ['signal', 'error', 'start', 'message', 'close'] as const) {
      await t.test(kind, async t => {
        const { play } = set(t, {}, { delay: 1_000 })
        const { phases } = await play({ kind, detail: '' })
        t.equal(phases[0]?.phase, kind === 'close' ? 'draining' : 'lame-duck')
      })
    }
    for (const overrides of [{ delay: 0 }, { delay: 1_000, listening: () => false }]) {
      await t.test(JSON.stringify(overrides), async t => {
        const { play, log } = set(t, { drains: { requests: { takes: 1, timeout: 5 } } }, overrides)
        t.equal((await play()).phases[0]?.phase, 'draining')
        t.notOk(log.some(entry => entry.includes('discouraged')))
      })
    }
  })

  t.test('in lame-duck it still serves: the drains discourage, over the whole delay, and nobody is told yet', async t => {
    const { play, at, before } = set(t, { drains: { requests: { takes: 1, timeout: 5 } } }, { delay: 5_000 })
    await play()
    t.equal(at('requests discouraged over 5000'), 0)
    t.equal(at('abort'), 5_000)
    t.ok(before('draining', 'abort'), 'who hears the signal sees the phase')
    t.ok(before('abort', 'requests told'))
  })

  t.test('the listener closes when draining begins where connections are to be refused, else when all is in', async t => {
    for (const refused of [true, false]) {
      await t.test(String(refused), async t => {
        const asked: boolean[] = []
        const { play, at, before } = set(t, { drains: { requests: { takes: 300, timeout: 5_000 } } }, { delay: 100, refusing: had => { asked.push(had); return refused } })
        await play()
        t.same(asked, [true])
        t.equal(at('listens no more'), refused ? 100 : 400)
        t.equal(before('listens no more', 'draining'), refused)
        t.equal(before('hears the last', 'draining'), refused, 'who was accepted last is still served')
      })
    }
    await t.test('and is told whether there was a lame-duck', async t => {
      const asked: boolean[] = []
      const { play } = set(t, {}, { refusing: had => { asked.push(had); return false } })
      await play()
      t.same(asked, [false])
    })
  })

  t.test('draining waits for requests, then tasks, then connections; cleaning waits for the app, then the resources close', async t => {
    const closed: string[] = []
    const { play, before, at, log } = set(t, {
      drains: { requests: { takes: 300, timeout: 30_000 } },
      tasks: { mail: () => wait(500) },
      resources: { db: { close () { closed.push('db') } } }
    })
    await play(signal, async () => {
      t.same(closed, [])
      await wait(50)
      t.same(closed, [], 'it has no place of its own, so it closes last')
    })
    t.same(closed, ['db'])
    t.equal(at('cleaning'), 501)
    t.ok(before('requests in', 'connections have 2500'))
    t.ok(before('connections have 2500', 'cleaning'))
    t.ok(before('listens no more', 'connections have 2500'), log.join('\n'))
  })

  t.end()
})

t.test('clocks', t => {
  t.test('all are told at once and run side by side; the tasks\' clock starts when both are in', async t => {
    const { play, at, parts } = set(t, {
      drains: { requests: { takes: forever, timeout: 30_000 }, streams: { takes: forever, timeout: 10_000 } },
      tasks: { stuck: never }
    })
    const { phases } = await play()
    t.equal(at('requests told'), 0)
    t.equal(at('streams told'), 0)
    t.equal(at('requests has 30000'), 0)
    t.equal(at('streams has 10000'), 0)
    t.equal(at('streams in'), 10_000)
    t.equal(at('requests in'), 30_000)
    t.equal(at('connections have 2500'), 40_000)
    t.match(parts.tasks.results(), [{ name: 'stuck', outcome: 'abandoned', durationMs: 40_000 }])
    t.equal(phases[0]?.outcome, 'failed')
  })

  t.test('a stage gets what is left of the total, less what is kept back for the resources', async t => {
    const { play, at } = set(t, {
      drains: { requests: { takes: forever, timeout: 60_000 } }, tasks: { stuck: never }, resources: { db: { close: () => wait(8_000) } }
    })
    const story = await play()
    t.equal(at('requests has 50000'), 0)
    t.equal(at('connections have 0'), 50_000)
    t.match(story.resources, [{ name: 'db', outcome: 'closed', durationMs: 8_000 }], 'a stuck request leaves the database its time')
    t.ok(story.durationMs <= 60_000)
  })

  t.test('at most half of the total is kept back', async t => {
    const { play, at } = set(t, { drains: { requests: { takes: 1, timeout: 60_000 } } }, { timeouts: { ...timeouts, resources: 50_000 } })
    await play()
    t.equal(at('requests has 30000'), 0)
  })

  t.test('what the listener takes to close is part of the total', async t => {
    const { play, at } = set(t, { drains: { requests: { takes: 1, timeout: 60_000 } } }, { delay: 20_000, refusing: () => true, stopListening: () => wait(400) })
    await play()
    t.equal(at('requests has 49600'), 20_400)
  })

  t.test('the delay is not part of the total', async t => {
    const { play, at } = set(t, { drains: { requests: { takes: 1, timeout: 60_000 } } }, { delay: 20_000 })
    await play()
    t.equal(at('requests has 50000'), 20_000)
  })

  t.test('the budget holds where everything is stuck', async t => {
    const { play, time } = set(t, {
      drains: { requests: { takes: forever, timeout: 30_000 }, streams: { takes: forever, timeout: 30_000 } },
      tasks: { stuck: never },
      connections: forever,
      resources: {
        db: { close: never, force: never }, cache: { dependsOn: ['db'], close: never, force: never, pause: never }, queue: { dependsOn: ['cache'], timeout: 60_000, close: never, force: never, pause: never }
      }
    }, { delay: 5_000 })
    const story = await play()
    t.ok(story.durationMs <= 65_100, `${story.durationMs} ms`)
    t.same(story.resources.map(({ outcome }) => outcome), ['abandoned', 'abandoned', 'abandoned'])
    t.equal(time.armed(), 0, 'no timer is left')
  })

  t.test('remaining counts down, through lame-duck too', async t => {
    const { coordinator, time, parts, play } = set(t, { resources: { db: { close: () => wait(500) } } }, { delay: 5_000 })
    t.equal(coordinator.remaining(), Infinity)
    const played = play()
    t.equal(coordinator.remaining(), 65_000)
    t.equal(parts.phase.current, 'lame-duck')
    void wait(3_000).then(() => t.equal(coordinator.remaining(), 62_000))
    void wait(5_200).then(() => t.equal(coordinator.remaining(), 59_800))
    await played
    t.equal(time.armed(), 0)
  })

  t.end()
})

t.test('asked twice', t => {
  t.test('done once: everyone gets the same promise, and the first reason counts', async t => {
    const { coordinator, play, events } = set(t)
    const played = play()
    const second = coordinator.shutDown({ kind: 'start', detail: 'me too' })
    t.equal(second, coordinator.shutDown(signal))
    t.same(coordinator.reason, signal)
    const story = await played
    t.equal(await second, story)
    t.equal(await coordinator.shutDown(signal), story)
    t.equal(events.filter(event => event.type === 'phase' && event.phase === 'draining').length, 1)
    t.equal(await coordinator.drained(signal), await coordinator.drained(signal))
  })

  t.test('also by a listener of its first phase', async t => {
    const { coordinator, parts, play } = set(t)
    let inner: Promise<Story> | undefined
    parts.phase.on('draining', () => { inner = coordinator.shutDown({ kind: 'start', detail: '' }) })
    t.equal(await play(), await inner)
  })

  t.test('drained() begins it where nothing has, and resolves when the server may go', async t => {
    const { coordinator, time, at } = set(t, { drains: { requests: { takes: 300, timeout: 5_000 } } })
    t.equal(coordinator.reason, null)
    const teardown = await time.until(coordinator.drained({ kind: 'close', detail: '' }))
    t.equal(at('cleaning'), 301)
    t.same(teardown.inside(), [])
    coordinator.serverGone()
    coordinator.serverGone()
    await time.until(coordinator.shutDown(signal))
  })

  t.end()
})

t.test('pause', t => {
  t.test('is called once, when lame-duck begins', async t => {
    const paused: number[] = []
    const begin = { ms: 0 }
    const { play, time } = set(t, { resources: { worker: { pause () { paused.push(time.now() - begin.ms) }, close () {} } } }, { delay: 1_000 })
    begin.ms = time.now()
    await play()
    t.same(paused, [0])
  })

  t.test('is called when draining begins where there is no lame-duck, after the signal, and draining waits for it', async t => {
    const { play, at, parts } = set(t, { resources: { worker: { pause () { t.ok(parts.abort.signal.aborted); return wait(700) } } } })
    await play()
    t.equal(at('cleaning'), 701)
  })

  t.test('that fails or hangs is told of, and changes nothing else', async t => {
    const { play, events, at } = set(t, {
      resources: { broken: { pause () { throw new Error('no') }, close () {} }, stuck: { timeout: 2_000, pause: never, close () {} }, fine: { pause () {}, close () {} } }
    })
    const story = await play()
    t.match(events.filter(({ type }) => type === 'problem'), [
      { message: "Resource 'broken' did not pause", error: { message: 'no' } },
      { message: "Resource 'stuck' did not pause", error: { message: "The pause of resource 'stuck' did not finish in 2000 ms" } }
    ])
    t.equal(at('cleaning'), 2_001, 'bounded by its own time')
    t.same(story.resources.map(({ outcome }) => outcome), ['closed', 'closed', 'closed'])
    t.equal(story.phases[0]?.outcome, 'clean')
  })

  t.test('that hangs does not eat the resources\' time', async t => {
    const { play } = set(t, { resources: { worker: { timeout: 60_000, pause: never, close: () => wait(8_000) } } }, { delay: 5_000 })
    const story = await play()
    t.match(story.resources, [{ outcome: 'closed', durationMs: 8_000 }])
  })

  t.test('is asked of one that comes while draining, and again of another of the same name', async t => {
    const paused: string[] = []
    const resources = new Map<string, Resource>([['worker', { pause () { paused.push('first') }, close () {} }]])
    const { coordinator, play, time } = set(t, { drains: { requests: { takes: 300, timeout: 5_000 } } }, { resources: () => new Map(resources) })
    const played = play()
    await settled()
    coordinator.pause()
    // As the registry does when something it depended on was taken away.
    resources.set('worker', { ...resources.get('worker')!, dependsOn: [] })
    coordinator.pause()
    t.same(paused, ['first'])
    resources.set('worker', { pause () { paused.push('second') }, close () {} })
    resources.set('late', { pause () { paused.push('late') }, close () {} })
    coordinator.pause()
    t.same(paused, ['first', 'second', 'late'])
    await played
    t.equal(time.armed(), 0)
  })

  t.end()
})

t.test('tasks', t => {
  t.test('that an exempt request hands over at the very end are waited for', async t => {
    const stage = set(t, {}, {
      async endConnections () {
        void stage.parts.tasks.run('late', () => wait(200))
        return 'clean'
      }
    })
    await stage.play()
    t.match(stage.parts.tasks.results(), [{ name: 'late', outcome: 'completed' }])
  })

  t.test('get their signal when draining begins, with an AbortError', async t => {
    const { play, parts, at } = set(t, {}, { delay: 100 })
    await play()
    t.equal(at('abort'), 100)
    t.match(parts.abort.signal.reason, { name: 'AbortError', message: 'The server is shutting down' })
  })

  t.test('a hundred listeners at the signal are no leak', async t => {
    const warnings: Error[] = []
    const warn = (warning: Error): void => { warnings.push(warning) }
    process.on('warning', warn)
    t.teardown(() => process.off('warning', warn))
    const { parts, play } = set(t)
    for (let i = 0; i < 100; i++) parts.abort.signal.addEventListener('abort', () => {})
    await play()
    await settled()
    t.same(warnings, [])
  })

  t.end()
})

t.test('outcomes', t => {
  const phase = (story: Story, name: string): Outcome | undefined => story.phases.find(({ phase }) => phase === name)?.outcome

  t.test('draining is as bad as its worst part', async t => {
    const played = async (t: Test, cast: Cast): Promise<Outcome | undefined> => phase(await set(t, cast).play(), 'draining')
    await t.test('clean', async t => t.equal(await played(t, { drains: { requests: { takes: 5, timeout: 10 } }, tasks: { a: () => wait(1) } }), 'clean'))
    await t.test('cut', async t => t.equal(await played(t, { drains: { streams: { takes: 5, timeout: 10 }, requests: { takes: 20, timeout: 10 } } }), 'forced'))
    await t.test('connections', async t => t.equal(await played(t, { connections: 5_000 }), 'forced'))
    await t.test('a task', async t => t.equal(await played(t, { drains: { requests: { takes: 20, timeout: 10 } }, tasks: { a: () => wait(1).then(() => { throw new Error('no') }) } }), 'failed'))
  })

  t.test('cleaning is as bad as its worst resource or hook', async t => {
    const hook = { name: 'x', startedMs: 0, durationMs: 0, error: null }
    await t.test('a resource', async t => {
      const { play, events } = set(t, { resources: { a: { close () { throw new Error('no') } }, b: { close () {} } } })
      const story = await play()
      t.equal(phase(story, 'cleaning'), 'failed')
      t.same(events.flatMap(event => event.type === 'resource' ? [`${event.result.name} ${event.result.outcome}`] : []), ['a failed', 'b closed'])
    })
    for (const [outcome, expected] of [['closed', 'clean'], ['failed', 'failed'], ['abandoned', 'failed']] as const) {
      await t.test(`a hook ${outcome}`, async t => {
        const { play, coordinator } = set(t)
        const story = await play(signal, async () => { coordinator.hookDone({ ...hook, outcome }) })
        t.equal(phase(story, 'cleaning'), expected)
        t.match(story.hooks, [{ name: 'x', outcome }])
      })
    }
  })

  t.end()
})

t.test('who is still inside', t => {
  const told = (events: readonly ShutdownEvent[]): string[] => events.flatMap(event => event.type === 'waiting' ? [`${event.elapsedMs} ${event.phase}: ${event.inside.join(', ')}`] : [])

  t.test('is named each second, once it is waited for', async t => {
    const { play, events } = set(t, {
      drains: { requests: { takes: 1_500, timeout: 5_000 } },
      tasks: { mail: () => wait(4_200) },
      resources: { db: { close: () => wait(1_000) } }
    }, { delay: 1_200 })
    await play()
    t.same(told(events), [
      '2000 draining: requests, task mail',
      '3000 draining: task mail', '4000 draining: task mail',
      '5000 cleaning: resource db'
    ])
    t.match(events.find(({ type }) => type === 'waiting'), { remainingMs: 59_200 })
  })

  t.test('is nobody: then nothing is said, but while cleaning, where it is the server itself', async t => {
    const { play, events } = set(t, {}, { delay: 1_500 })
    await play(signal, () => wait(1_000))
    t.same(told(events), ['2000 cleaning: '])
  })

  t.test('is not asked any more when it is over', async t => {
    const { play, events, time } = set(t, { resources: { a: { close: () => wait(10) } } })
    await play()
    const { length } = events
    await time.pass(5_000)
    t.equal(events.length, length)
    t.equal(time.armed(), 0)
  })

  t.end()
})

t.test('time', t => {
  t.test('a deadline counts down to 0, and a stage gets what it leaves', async t => {
    const time = virtualTime(t)
    const deadline = startDeadline(1_000)
    await time.pass(300)
    t.equal(deadline.remaining(), 700)
    t.equal(deadline.elapsed(), 300)
    t.equal(deadline.stage(500), 500)
    t.equal(deadline.stage(5_000), 700)
    t.equal(deadline.stage(5_000, 200), 500)
    t.equal(deadline.stage(5_000, 900), 0)
    await time.pass(5_000)
    t.equal(deadline.remaining(), 0)
    t.equal(deadline.stage(10), 0)
  })

  t.test('within() tells what came of it, in time or not, and never rejects', async t => {
    const time = virtualTime(t)
    const broken = new Error('broken')
    t.same(await within(100, () => 5), { status: 'fulfilled', value: 5 })
    t.match(await within(100, () => { throw broken }), { status: 'rejected', reason: broken })
    t.match(await within(100, () => Promise.reject(broken)), { status: 'rejected', reason: broken })
    t.equal(time.armed(), 0, 'its timer is gone at once')
    t.same(await time.until(within(100, never)), { status: 'late' })
    t.same(await time.until(within(100, () => wait(200).then(() => { throw broken }))), { status: 'late' }, 'a late throw is nobody\'s')
    await time.pass(200)
    t.equal(time.armed(), 0)
  })

  t.test('what is cancelled does not happen, and what repeats can end', async t => {
    const time = virtualTime(t)
    const happened: string[] = []
    const cancel = after(100, () => happened.push('cancelled'))
    after(100, () => happened.push('after'))
    const stop = every(60, () => happened.push('every'))
    await time.pass(50)
    cancel()
    await time.pass(80)
    stop()
    await time.pass(500)
    t.same(happened, ['every', 'after', 'every'])
    t.equal(time.armed(), 0)
  })

  t.end()
})
