/** The rules of a shutdown, in virtual time: its drains and resources are made up, everything between them is real. */
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import type { Drain } from '../../lib/http/drains/drain'
import type { LastRequest } from '../../lib/http/last-request'
import { createEvents } from '../../lib/lifecycle/events'
import { createLifecycle, type LifecycleControl } from '../../lib/lifecycle/phases'
import { createProblems } from '../../lib/lifecycle/problems'
import { noCounts } from '../../lib/lifecycle/report'
import { createShutdown } from '../../lib/lifecycle/shutdown'
import type { ShutdownParts, ShutdownSequence } from '../../lib/lifecycle/shutdown-parts'
import { createTasks, type Tasks } from '../../lib/lifecycle/tasks'
import type { Settings } from '../../lib/options'
import { fixedDelay } from '../../lib/times'
import { interceptCloseHooks } from '../../lib/resources/close-hooks'
import { createResources, type Resources } from '../../lib/resources/resources'
import type { Teardown } from '../../lib/resources/teardown'
import { after, every, startDeadline, within } from '../../lib/util/time'
import type { HookResult, Outcome, Resource, ShutdownEvent, ShutdownReason, ShutdownReport, Timeouts } from '../../types/index'
import { settled, virtualTime, type Time } from '../helpers/time'

const wait = (ms: number): Promise<void> => new Promise(resolve => { setTimeout(resolve, ms) })
const never = (): Promise<void> => new Promise(() => {})
const forever = 10 ** 7
const signal: ShutdownReason = { kind: 'signal', detail: 'SIGTERM' }
const timeouts = { requests: 30_000, streams: 10_000, tasks: 10_000, resources: 10_000, total: 60_000 }

interface Stage {
  readonly shutdown: ShutdownSequence
  readonly lifecycle: LifecycleControl
  readonly tasks: Tasks
  readonly resources: Resources
  readonly time: Time
  /** What happened, each with its millisecond. */
  readonly log: string[]
  readonly events: ShutdownEvent[]
  at (entry: string): number
  before (first: string, second: string): boolean
  /** Runs the shutdown to its end. @param closeApp what Fastify does between `drain` and `finish` */
  play (reason?: ShutdownReason, closeApp?: (teardown: Teardown) => Promise<void>): Promise<ShutdownReport>
}

interface Cast {
  /** Each is over after `takes` milliseconds. */
  readonly drains?: Readonly<Record<string, { takes: number, timeout: number }>>
  readonly resources?: Record<string, Resource>
  readonly tasks?: Readonly<Record<string, () => Promise<unknown>>>
  /** How long the connections take to end, in milliseconds. */
  readonly connections?: number
  readonly delay?: number | Settings['delay']
  /** Each request, in milliseconds after the beginning. A negative one came before it. */
  readonly requests?: readonly number[]
  readonly timeouts?: Required<Timeouts>
  readonly newConnections?: 'auto' | 'answer' | 'refuse'
  readonly listening?: boolean
  /** The app's own onClose hooks. */
  readonly hooks?: readonly HookResult[]
  readonly stopListening?: () => Promise<void>
  readonly refitTimeouts?: Settings['refitTimeouts']
  readonly endConnections?: (stage: () => Stage) => Promise<Outcome>
}

function set (t: Test, cast: Cast = {}): Stage {
  const time = virtualTime(t)
  const begin = time.now()
  const log: string[] = []
  const seen: ShutdownEvent[] = []
  const note = (entry: string): void => { log.push(`${time.now() - begin} ${entry}`) }
  const problems = createProblems()
  const events = createEvents(error => problems.record('A listener threw', error))
  events.listen(event => {
    seen.push(event)
    if (event.type === 'phase') note(event.phase)
  })
  const onProblem = (message: string, error: unknown): void => {
    problems.record(message, error)
    events.emit({ type: 'problem', message, error })
  }
  const lifecycle = createLifecycle(error => onProblem('A phase listener threw', error))
  lifecycle.boot()
  lifecycle.signal.addEventListener('abort', () => note('abort'))
  const tasks = createTasks(lifecycle, () => {})
  const drains = Object.entries(cast.drains ?? {}).map(([name, { takes, timeout }]): Drain => {
    let isPending = true
    return {
      name,
      timeout,
      enterLameDuck: ms => note(`${name} in lame-duck for ${ms}`),
      beginDraining: () => note(`${name} begins to drain`),
      async drain (ms) {
        note(`${name} has ${ms}`)
        await wait(Math.min(takes, ms))
        isPending = false
        note(`${name} drained`)
        return takes <= ms ? 'clean' : 'forced'
      },
      pending: () => isPending ? [name] : []
    }
  })
  const lastRequest: LastRequest = {
    note () {},
    forget () {},
    silence: () => time.now() - begin - (cast.requests ?? []).reduce((last, at) => at <= time.now() - begin ? at : last, -Infinity),
    async untilQuiet (quiet, max) {
      for (const until = time.now() + max; ; await wait(10)) {
        if (lastRequest.silence() >= quiet) return true
        if (time.now() >= until) return false
      }
    }
  }
  const settings = { timeouts, newConnections: 'auto' as const, signals: false as const, refitTimeouts: cast.refitTimeouts ?? (() => {}), uncaughtErrors: false, exit: false, onReport: undefined, track: 'count' as const, resources: cast.resources ?? {}, ...cast, delay: typeof cast.delay === 'object' ? cast.delay : fixedDelay(cast.delay ?? 0) }
  const noApp = { addHook () {} } as unknown as FastifyInstance
  const resources = createResources(options => interceptCloseHooks(noApp, (_name, hook) => hook, options), {
    settings,
    lifecycle,
    log: {} as FastifyBaseLogger,
    drain: () => shutdown.drain(),
    finish: () => shutdown.finish(),
    runInside: part => part(),
    onResource: result => events.emit({ type: 'resource', result }),
    onHook: () => {},
    onLastResources: () => {},
    onProblem
  })
  let whileClosing = async (_teardown: Teardown): Promise<void> => {}
  let closing: Promise<void> | undefined
  const parts: ShutdownParts = {
    lifecycle,
    settings,
    state: { activeRequests: 0, activeStreams: 0, activeWebSockets: 0 },
    events,
    tasks,
    traffic: {
      lastRequest,
      drains,
      listening: cast.listening ?? true,
      begin () {},
      async stopListening () {
        await cast.stopListening?.()
        note('stops listening')
      },
      async waitForFirstBytes () { note('waits for the last connections') },
      failListen () {},
      beginDraining () {},
      async end (ms): Promise<Outcome> {
        note(`connections have ${ms}`)
        if (cast.endConnections !== undefined) return await cast.endConnections(() => stage)
        await wait(Math.min(cast.connections ?? 1, ms))
        return (cast.connections ?? 1) <= ms ? 'clean' : 'forced'
      },
      destroyAll () {},
      counts: () => noCounts
    },
    resources: { ...resources, hookResults: cast.hooks ?? [] },
    problems,
    flushLog: async () => {},
    close: {
      name: 'app.close()',
      original: async () => {
        closing ??= shutdown.drain().then(async teardown => await whileClosing(teardown)).then(shutdown.finish)
        await closing
      },
      runInside: part => part(),
      settle () {}
    },
    joinProcess: () => ({ leave () {}, meetOthers: () => ({ notes: [], warnings: [] }) }),
    async flush () {},
    onForcedExit () {},
    onProblem
  }
  const shutdown = createShutdown(parts)
  for (const [name, work] of Object.entries(cast.tasks ?? {})) void tasks.run(name, work).catch(() => {})
  const find = (entry: string): string | undefined => log.find(line => line.slice(line.indexOf(' ') + 1) === entry)
  const stage: Stage = {
    shutdown,
    lifecycle,
    tasks,
    resources,
    time,
    log,
    events: seen,
    at: entry => Number.parseInt(find(entry) ?? 'NaN'),
    before: (first, second) => find(first) !== undefined && find(second) !== undefined && log.indexOf(find(first)!) < log.indexOf(find(second)!),
    play (reason = signal, closeApp = async () => {}) {
      whileClosing = closeApp
      return time.until(shutdown.start(reason))
    }
  }
  return stage
}

t.test('phases', t => {
  t.test('follow each other, each with its start and its length', async t => {
    const { play } = set(t, { drains: { requests: { takes: 300, timeout: 30_000 } }, resources: { db: { close: () => wait(20) } }, delay: 5_000 })
    const story = await play()
    t.same(story.phases, [
      { phase: 'lame-duck', startedMs: 0, durationMs: 5_000, outcome: 'clean', endedBy: 'delay' },
      { phase: 'draining', startedMs: 5_000, durationMs: 301, outcome: 'clean' },
      { phase: 'cleaning', startedMs: 5_301, durationMs: 20, outcome: 'clean' },
      { phase: 'shutdown', startedMs: 5_321, durationMs: 0, outcome: 'clean' }
    ])
    t.match(story, { reason: signal, durationMs: 5_321, criticalPath: ['db'], hooks: [] })
    t.equal(story.startedAt, '1970-01-01T00:00:00.001Z')
  })

  t.test('are told as events', async t => {
    const { play, events } = set(t, { delay: 100 })
    await play()
    t.match(events.filter(({ type }) => type === 'phase'), [
      { phase: 'lame-duck', previous: 'running', reason: signal, atMs: 0 }, { phase: 'draining', previous: 'lame-duck', atMs: 100 },
      { phase: 'cleaning', previous: 'draining' }, { phase: 'shutdown', previous: 'cleaning' }
    ])
  })

  t.test('every shutdown but a plain close() has a lame-duck, if there is a delay and the server listens', async t => {
    for (const kind of ['signal', 'error', 'start', 'message', 'close'] as const) {
      await t.test(kind, async t => {
        const { play } = set(t, { delay: 1_000 })
        const { phases } = await play({ kind, detail: '' })
        t.equal(phases[0]?.phase, kind === 'close' ? 'draining' : 'lame-duck')
      })
    }
    for (const cast of [{ delay: 0 }, { delay: 1_000, listening: false }]) {
      await t.test(JSON.stringify(cast), async t => {
        const { play, log } = set(t, { drains: { requests: { takes: 1, timeout: 5 } }, ...cast })
        t.equal((await play()).phases[0]?.phase, 'draining')
        t.notOk(log.some(entry => entry.includes('in lame-duck')))
      })
    }
  })

  t.test('lame-duck lasts the whole delay, and no drain begins before its end', async t => {
    const { play, at, before } = set(t, { drains: { requests: { takes: 1, timeout: 5 } }, delay: 5_000 })
    await play()
    t.equal(at('requests in lame-duck for 5000'), 0)
    t.equal(at('abort'), 5_000)
    t.ok(before('draining', 'abort'), 'a listener of the signal sees the new phase')
    t.ok(before('abort', 'requests begins to drain'))
  })

  t.test('the server stops listening when draining begins if new connections are refused, else when the drains are over', async t => {
    for (const newConnections of ['refuse', 'answer'] as const) {
      await t.test(newConnections, async t => {
        const { play, at, before } = set(t, { drains: { requests: { takes: 300, timeout: 5_000 } }, delay: 100, newConnections })
        await play()
        const refuses = newConnections === 'refuse'
        t.equal(at('stops listening'), refuses ? 100 : 400)
        t.equal(before('stops listening', 'draining'), refuses)
        t.equal(before('waits for the last connections', 'draining'), refuses, 'the last connections are still served')
      })
    }
  })

  t.test("newConnections: 'auto' refuses after a lame-duck only", async t => {
    for (const delay of [0, 100]) {
      await t.test(`a delay of ${delay} ms`, async t => {
        const { play, before } = set(t, { drains: { requests: { takes: 300, timeout: 5_000 } }, delay })
        await play()
        t.equal(before('stops listening', 'draining'), delay > 0)
      })
    }
  })

  t.test('SIGUSR2 has no lame-duck, and new connections are refused at once', async t => {
    const { play, before } = set(t, { drains: { requests: { takes: 300, timeout: 5_000 } }, delay: 100 })
    const { phases } = await play({ kind: 'signal', detail: 'SIGUSR2' })
    t.equal(phases[0]?.phase, 'draining')
    t.ok(before('stops listening', 'draining'))
  })

  t.test('draining waits for requests, then tasks, then connections; then Fastify closes, and the resources close after it', async t => {
    const closed: string[] = []
    const { play, before, at, log } = set(t, {
      drains: { requests: { takes: 300, timeout: 30_000 } },
      tasks: { mail: () => wait(500) },
      resources: { db: { close () { closed.push('db') } } }
    })
    await play(signal, async () => {
      t.same(closed, [])
      await wait(50)
      t.same(closed, [], 'a resource from the options closes after the hooks')
    })
    t.same(closed, ['db'])
    t.equal(at('cleaning'), 501)
    t.ok(before('requests drained', 'connections have 2500'))
    t.ok(before('connections have 2500', 'cleaning'))
    t.ok(before('stops listening', 'connections have 2500'), log.join('\n'))
  })

  t.end()
})

t.test('clocks', t => {
  t.test('requests and streams drain in parallel; the clock of the tasks starts when both are done', async t => {
    const { play, at, tasks } = set(t, {
      drains: { requests: { takes: forever, timeout: 30_000 }, streams: { takes: forever, timeout: 10_000 } },
      tasks: { stuck: never }
    })
    const { phases } = await play()
    t.equal(at('requests begins to drain'), 0)
    t.equal(at('streams begins to drain'), 0)
    t.equal(at('requests has 30000'), 0)
    t.equal(at('streams has 10000'), 0)
    t.equal(at('streams drained'), 10_000)
    t.equal(at('requests drained'), 30_000)
    t.equal(at('connections have 2500'), 40_000)
    t.match(tasks.results(), [{ name: 'stuck', outcome: 'abandoned', durationMs: 40_000 }])
    t.equal(phases[0]?.outcome, 'failed')
  })

  t.test('a stage gets what is left of the total, less the reserve of the resources', async t => {
    const { play, at } = set(t, {
      drains: { requests: { takes: forever, timeout: 60_000 } }, tasks: { stuck: never }, resources: { db: { close: () => wait(8_000) } }
    })
    const story = await play()
    t.equal(at('requests has 50000'), 0)
    t.equal(at('connections have 0'), 50_000)
    t.match(story.resources, [{ name: 'db', outcome: 'closed', durationMs: 8_000 }], 'a stuck request leaves the database its time')
    t.ok(story.durationMs <= 60_000)
  })

  t.test('every resource is in the report, also if its time is a millisecond', async t => {
    const { play } = set(t, {
      timeouts: { ...timeouts, resources: 1, total: 1_000 },
      drains: { requests: { takes: forever, timeout: 60_000 } },
      resources: { db: { close: () => wait(1) }, cache: { dependsOn: ['db'], close: () => wait(1) }, worker: { dependsOn: ['cache'], close: never, force: () => wait(1) } }
    })
    t.strictSame((await play()).resources.map(({ name }) => name), ['db', 'cache', 'worker'])
  })

  t.test('at most half of the total is reserved', async t => {
    const { play, at } = set(t, { drains: { requests: { takes: 1, timeout: 60_000 } }, timeouts: { ...timeouts, resources: 50_000 } })
    await play()
    t.equal(at('requests has 30000'), 0)
  })

  t.test('the time to stop listening is part of the total', async t => {
    const { play, at } = set(t, { drains: { requests: { takes: 1, timeout: 60_000 } }, delay: 20_000, stopListening: () => wait(400) })
    await play()
    t.equal(at('requests has 49600'), 20_400)
  })

  t.test('a lame-duck with a range ends when no request has come for some time', async t => {
    const delay = { min: 1_000, max: 5_000, quiet: 500 }
    const cases: [requests: number[], lasts: number, endedBy: string][] = [
      [[], 1_000, 'quiet'],
      [[-300, 400], 1_000, 'quiet'],
      [[800], 1_300, 'quiet'],
      [[800, 1_290, 1_700], 2_200, 'quiet'],
      [Array.from({ length: 100 }, (_, i) => i * 100), 5_000, 'max']
    ]
    for (const [requests, lasts, endedBy] of cases) {
      await t.test(`requests at ${requests.slice(0, 4).join(', ')}`, async t => {
        const { play, lifecycle, events } = set(t, { delay, requests })
        const { phases } = await play()
        t.match(phases[0], { phase: 'lame-duck', durationMs: lasts, endedBy })
        t.equal(lifecycle.lameDuckEnd, endedBy)
        t.match(events.find(event => event.type === 'phase' && event.phase === 'draining'), { lameDuckEnd: endedBy })
      })
    }
  })

  t.test('a range without a shortest length has no lame-duck if no request came lately', async t => {
    const delay = { min: 0, max: 2_000, quiet: 500 }
    for (const [requests, lasts] of [[[], null], [[-500], null], [[-400], 100], [[-1, 300], 800]] as [number[], number | null][]) {
      await t.test(`requests at ${requests.join(', ')}`, async t => {
        const { play, before, lifecycle } = set(t, { delay, requests, drains: { requests: { takes: 1, timeout: 5 } } })
        const { phases } = await play()
        if (lasts === null) {
          t.equal(phases[0]?.phase, 'draining')
          t.equal(lifecycle.lameDuckEnd, null)
          t.ok(before('draining', 'stops listening'), 'new connections are answered')
        } else {
          t.match(phases[0], { phase: 'lame-duck', durationMs: lasts })
          t.ok(before('stops listening', 'draining'), 'new connections are refused')
          t.ok(before('requests in lame-duck for 500', 'draining'), 'idle connections close evenly over the quiet time')
        }
      })
    }
  })

  t.test('what lame-duck does not use is left for the rest: the timeouts are scaled again, and the total begins at its end', async t => {
    const timeouts = { requests: 7_000, streams: 2_000, tasks: 2_000, resources: 2_000, total: 14_000 }
    const { play, at } = set(t, {
      delay: { min: 5_000, max: 15_000, quiet: 1_000 },
      timeouts,
      refitTimeouts: lameDuck => { Object.assign(timeouts, { requests: 12_000, resources: 4_000, total: 29_000 - lameDuck }) },
      drains: { requests: { takes: 1, timeout: Infinity } }
    })
    await play()
    t.equal(at('requests has 20000'), 5_000, '24 s of the total, and a reserve of 4 s')
  })

  t.test('the delay is not part of the total', async t => {
    const { play, at } = set(t, { drains: { requests: { takes: 1, timeout: 60_000 } }, delay: 20_000 })
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
      },
      delay: 5_000
    })
    const story = await play()
    t.ok(story.durationMs <= 65_100, `${story.durationMs} ms`)
    t.same(story.resources.map(({ outcome }) => outcome), ['abandoned', 'abandoned', 'abandoned'])
    t.equal(time.armed(), 0, 'no timer is left')
  })

  t.test('remaining counts down, through lame-duck too', async t => {
    const { lifecycle, time, play } = set(t, { resources: { db: { close: () => wait(500) } }, delay: 5_000 })
    t.equal(lifecycle.remaining(), Infinity)
    const played = play()
    t.equal(lifecycle.remaining(), 65_000)
    t.equal(lifecycle.phase, 'lame-duck')
    void wait(3_000).then(() => t.equal(lifecycle.remaining(), 62_000))
    void wait(5_200).then(() => t.equal(lifecycle.remaining(), 59_800))
    await played
    t.equal(time.armed(), 0)
  })

  t.end()
})

t.test('a shutdown that is begun twice', t => {
  t.test('runs once: every caller gets the same report, and the first reason counts', async t => {
    const { shutdown, lifecycle, play, events } = set(t)
    const played = play()
    const second = shutdown.start({ kind: 'start', detail: 'me too' })
    t.equal(second, shutdown.start(signal))
    t.same(lifecycle.reason, signal)
    const report = await played
    t.equal(await second, report)
    t.equal(await shutdown.start(signal), report)
    t.equal(events.filter(event => event.type === 'phase' && event.phase === 'draining').length, 1)
    t.equal(await shutdown.drain(), await shutdown.drain())
  })

  t.test('runs once also if a listener of its first phase begins it again', async t => {
    const { shutdown, lifecycle, play } = set(t)
    let inner: Promise<ShutdownReport> | undefined
    lifecycle.on('draining', () => { inner = shutdown.start({ kind: 'start', detail: '' }) })
    t.equal(await play(), await inner)
  })

  t.test('drain() begins the shutdown of a plain close, and resolves when Fastify may close', async t => {
    const { shutdown, lifecycle, time, at } = set(t, { drains: { requests: { takes: 300, timeout: 5_000 } } })
    t.equal(lifecycle.reason, null)
    const teardown = await time.until(shutdown.drain())
    t.same(lifecycle.reason, { kind: 'close', detail: 'app.close()' })
    t.equal(at('cleaning'), 301)
    t.same(teardown.pending(), [])
    await time.until(shutdown.finish())
    t.equal(lifecycle.phase, 'shutdown')
  })

  t.end()
})

t.test('pause', t => {
  t.test('is called once, when lame-duck begins', async t => {
    const paused: number[] = []
    const begin = { ms: 0 }
    const { play, time } = set(t, { resources: { worker: { pause () { paused.push(time.now() - begin.ms) }, close () {} } }, delay: 1_000 })
    begin.ms = time.now()
    await play()
    t.same(paused, [0])
  })

  t.test('is called when draining begins where there is no lame-duck, after the signal, and draining waits for it', async t => {
    const { play, at, lifecycle } = set(t, { resources: { worker: { pause () { t.ok(lifecycle.signal.aborted); return wait(700) } } } })
    await play()
    t.equal(at('cleaning'), 701)
  })

  t.test('that fails or hangs is reported, and changes nothing else', async t => {
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
    const { play } = set(t, { resources: { worker: { timeout: 60_000, pause: never, close: () => wait(8_000) } }, delay: 5_000 })
    const story = await play()
    t.match(story.resources, [{ outcome: 'closed', durationMs: 8_000 }])
  })

  t.test('is called for a resource that comes while draining, and again for another one of the same name', async t => {
    const paused: string[] = []
    const { resources, play, time } = set(t, {
      resources: { db: { close () {} }, worker: { dependsOn: ['db'], pause () { paused.push('first') }, close () {} } },
      drains: { requests: { takes: 300, timeout: 5_000 } }
    })
    const removable = resources.add('removable', { pause () { paused.push('removable') }, close () {} })
    const played = play()
    await settled()
    resources.pause()
    t.same(paused, ['first', 'removable'])
    removable()
    resources.add('removable', { pause () { paused.push('second') }, close () {} })
    resources.add('late', { pause () { paused.push('late') }, close () {} })
    t.same(paused, ['first', 'removable', 'second', 'late'])
    await played
    t.equal(time.armed(), 0)
  })

  t.end()
})

t.test('tasks', t => {
  t.test('that an exempt request starts at the very end are waited for', async t => {
    const { play, tasks } = set(t, {
      async endConnections (stage) {
        void stage().tasks.run('late', () => wait(200))
        return 'clean'
      }
    })
    await play()
    t.match(tasks.results(), [{ name: 'late', outcome: 'completed' }])
  })

  t.test('that an exempt request starts at the very end have only what is left of the time of tasks', async t => {
    const { play, tasks } = set(t, {
      tasks: { first: () => wait(9_000) },
      async endConnections (stage) {
        void stage().tasks.run('late', never)
        return 'clean'
      }
    })
    const { durationMs } = await play()
    t.match(tasks.results(), [{ name: 'first', outcome: 'completed' }, { name: 'late', outcome: 'abandoned' }])
    t.equal(durationMs, timeouts.tasks)
  })

  t.test('get their signal when draining begins, with an AbortError', async t => {
    const { play, lifecycle, at } = set(t, { delay: 100 })
    await play()
    t.equal(at('abort'), 100)
    t.match(lifecycle.signal.reason, { name: 'AbortError', message: 'The server is shutting down' })
  })

  t.test('a hundred listeners at the signal are no leak', async t => {
    const warnings: Error[] = []
    const warn = (warning: Error): void => { warnings.push(warning) }
    process.on('warning', warn)
    t.teardown(() => process.off('warning', warn))
    const { lifecycle, play } = set(t)
    for (let i = 0; i < 100; i++) lifecycle.signal.addEventListener('abort', () => {})
    await play()
    await settled()
    t.same(warnings, [])
  })

  t.end()
})

t.test('outcomes', t => {
  const phase = (story: ShutdownReport, name: string): Outcome | undefined => story.phases.find(({ phase }) => phase === name)?.outcome

  t.test('draining is as bad as its worst part', async t => {
    const played = async (t: Test, cast: Cast): Promise<Outcome | undefined> => phase(await set(t, cast).play(), 'draining')
    await t.test('clean', async t => t.equal(await played(t, { drains: { requests: { takes: 5, timeout: 10 } }, tasks: { a: () => wait(1) } }), 'clean'))
    await t.test('cut', async t => t.equal(await played(t, { drains: { streams: { takes: 5, timeout: 10 }, requests: { takes: 20, timeout: 10 } } }), 'forced'))
    await t.test('connections', async t => t.equal(await played(t, { connections: 5_000 }), 'forced'))
    await t.test('a task', async t => t.equal(await played(t, { drains: { requests: { takes: 20, timeout: 10 } }, tasks: { a: () => wait(1).then(() => { throw new Error('no') }) } }), 'failed'))
  })

  t.test('cleaning is as bad as its worst resource or hook', async t => {
    const hook = { hook: 'onClose' as const, name: 'x', startedMs: 0, durationMs: 0, error: null }
    await t.test('a resource', async t => {
      const { play, events } = set(t, { resources: { a: { close () { throw new Error('no') } }, b: { close () {} } } })
      const story = await play()
      t.equal(phase(story, 'cleaning'), 'failed')
      t.same(events.flatMap(event => event.type === 'resource' ? [`${event.result.name} ${event.result.outcome}`] : []), ['a failed', 'b closed'])
    })
    for (const [outcome, expected] of [['closed', 'clean'], ['failed', 'failed'], ['abandoned', 'failed']] as const) {
      await t.test(`a hook ${outcome}`, async t => {
        const { play } = set(t, { hooks: [{ ...hook, outcome }] })
        const story = await play()
        t.equal(phase(story, 'cleaning'), expected)
        t.match(story.hooks, [{ name: 'x', outcome }])
      })
    }
  })

  t.end()
})

t.test('what is pending', t => {
  const told = (events: readonly ShutdownEvent[]): string[] => events.flatMap(event => event.type === 'waiting' ? [`${event.elapsedMs} ${event.phase}: ${event.pending.join(', ')}`] : [])

  t.test('is named each second, once the shutdown waits for it', async t => {
    const { play, events } = set(t, {
      drains: { requests: { takes: 1_500, timeout: 5_000 } },
      tasks: { mail: () => wait(4_200) },
      resources: { db: { close: () => wait(1_000) } },
      delay: 1_200
    })
    await play()
    t.same(told(events), [
      '2000 draining: requests, task mail',
      '3000 draining: task mail', '4000 draining: task mail',
      '5000 cleaning: resource db'
    ])
    t.match(events.find(({ type }) => type === 'waiting'), { remainingMs: 59_200 })
  })

  t.test('is not logged if it is nothing, except while cleaning, when Fastify closes its server', async t => {
    const { play, events } = set(t, { delay: 1_500 })
    await play(signal, () => wait(1_000))
    t.same(told(events), ['2000 cleaning: '])
  })

  t.test('is no longer logged when the shutdown is over', async t => {
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
    t.equal(deadline.limit(500), 500)
    t.equal(deadline.limit(5_000), 700)
    t.equal(deadline.limit(5_000, 200), 500)
    t.equal(deadline.limit(5_000, 900), 0)
    await time.pass(5_000)
    t.equal(deadline.remaining(), 0)
    t.equal(deadline.limit(10), 0)
  })

  t.test('within() returns how the work ended, in time or late, and never rejects', async t => {
    const time = virtualTime(t)
    const broken = new Error('broken')
    t.same(await within(100, () => 5), { status: 'fulfilled', value: 5 })
    t.match(await within(100, () => { throw broken }), { status: 'rejected', reason: broken })
    t.match(await within(100, () => Promise.reject(broken)), { status: 'rejected', reason: broken })
    t.equal(time.armed(), 0, 'its timer is gone at once')
    t.same(await time.until(within(100, never)), { status: 'late' })
    t.same(await time.until(within(100, () => wait(200).then(() => { throw broken }))), { status: 'late' }, 'a late throw is ignored')
    await time.pass(200)
    t.equal(time.armed(), 0)
  })

  t.test('a timer that is cancelled does not fire, and one that repeats can be stopped', async t => {
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
