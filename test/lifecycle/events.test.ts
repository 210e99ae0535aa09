/** Events and their receivers: exporters, the log, the report, the state, and the body of a 503. */
import { channel } from 'node:diagnostics_channel'
import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import t from 'tap'
import { checkRoute, createCategories } from '../../lib/http/categories'
import { ShutdownDrainingError, ShutdownTeardownError } from '../../lib/errors'
import { createEvents } from '../../lib/lifecycle/events'
import { startExporters } from '../../lib/exporters/exporter'
import { diagnosticsChannelExporter } from '../../lib/exporters/diagnostics-channel'
import { flushLog } from '../../lib/exporters/flush-log'
import { logExporter } from '../../lib/exporters/log'
import type { InFlightTable } from '../../lib/http/in-flight'
import { createLifecycle, type LifecycleControl } from '../../lib/lifecycle/phases'
import { createRejection } from '../../lib/http/rejection'
import { createReport, failuresOf, type Counts, type ShutdownRecord } from '../../lib/lifecycle/report'
import { createState } from '../../lib/lifecycle/state'
import { createTasks } from '../../lib/lifecycle/tasks'
import { withResultJson } from '../../lib/util/error-json'
import type { HookResult, Outcome, Phase, ResourceResult, ShutdownEvent, ShutdownReason, ShutdownState } from '../../types/index'
import { settled, virtualTime } from '../helpers/time'

const reason: ShutdownReason = { kind: 'signal', detail: 'SIGTERM' }
const problem: ShutdownEvent = { type: 'problem', message: 'x', error: null }
const state = {} as ShutdownState
const log = {} as FastifyBaseLogger

const resource = (name: string, outcome: ResourceResult['outcome'], error: Error | null = null): ResourceResult => Object.freeze(withResultJson({ name, outcome, startedMs: 0, durationMs: 1, waitedFor: [], error }))
const hook = (name: string, outcome: HookResult['outcome'], error: Error | null = null): HookResult => Object.freeze(withResultJson<HookResult>({ hook: 'onClose', name, outcome, startedMs: 0, durationMs: 1, error }))

const counts: Counts = {
  requests: { completed: 5, rejected: 1, aborted: 0, cut: [] },
  streams: { ended: 0, cut: 0 },
  webSockets: { closed: 0, terminated: 0 },
  http2Sessions: { closed: 0, destroyed: 0 },
  sockets: { idle: 0, silent: 0, destroyed: 0 },
  tasks: [],
  cutAtWork: 0
}

function story (outcomes: readonly Outcome[] = [], more: Partial<ShutdownRecord> = {}): ShutdownRecord {
  const names: readonly Phase[] = ['draining', 'cleaning', 'shutdown']
  return {
    reason,
    startedAt: new Date(0),
    durationMs: 12.3,
    phases: names.map((phase, i) => ({ phase, startedMs: i, durationMs: 1, outcome: outcomes[i] ?? 'clean' })),
    inFlight: [],
    resources: [],
    hooks: [],
    criticalPath: [],
    problems: [],
    ...more
  }
}

t.test('events', t => {
  t.test('an event reaches every listener until the listener is removed; a function that is added twice is called twice', async t => {
    const events = createEvents(() => {})
    const heard: ShutdownEvent[] = []
    const listener = (event: ShutdownEvent): void => { heard.push(event) }
    const undo = events.listen(listener)
    events.listen(listener)
    events.emit(problem)
    t.same(heard, [problem, problem])
    undo()
    undo()
    events.emit(problem)
    t.equal(heard.length, 3)
  })

  t.test('a listener that throws or rejects disturbs no other listener', async t => {
    const unhandled: unknown[] = []
    const note = (error: unknown): void => { unhandled.push(error) }
    process.on('unhandledRejection', note)
    t.teardown(() => process.off('unhandledRejection', note))
    const events = createEvents(() => {})
    let heard = 0
    events.listen(() => { throw new Error('no') })
    events.listen(async () => { throw new Error('no') })
    events.listen(() => { heard++ })
    t.doesNotThrow(() => events.emit(problem))
    t.equal(heard, 1)
    await settled()
    await settled()
    t.same(unhandled, [])
  })

  t.end()
})

t.test('exporters', t => {
  t.test('an exporter that fails to start or end is reported, and disturbs no other exporter', async t => {
    const time = virtualTime(t)
    const problems: [string, unknown][] = []
    const done: string[] = []
    const end = startExporters([
      { name: 'broken', start () { throw new Error('start') } },
      { name: 'throws', start: () => () => { throw new Error('end') } },
      { name: 'hangs', start: () => () => new Promise(() => {}) },
      { name: 'nothing', start () {} },
      { name: 'fine', start: () => async () => { done.push('fine') } }
    ], { state, log, listen: () => () => {} }, (...each) => problems.push(each))
    t.match(problems, [["Exporter 'broken' did not start", { message: 'start' }]])
    const begin = time.now()
    await time.until(end())
    t.same(done, ['fine'])
    t.equal(time.now() - begin, 1_000, 'an exporter that hangs has one second')
    t.match(problems.slice(1), [
      ["Exporter 'throws' did not end", { message: 'end' }], ["Exporter 'hangs' did not end", { code: 'FST_ERR_SHUTDOWN_TIMEOUT', message: "Exporter 'hangs' did not finish in 1000 ms" }]
    ])
    t.equal(time.armed(), 0)
  })

  t.test('exporters receive the events and can read the state', async t => {
    const events = createEvents(() => {})
    const heard: string[] = []
    startExporters([{ name: 'x', start (source) { t.equal(source.state, state); return source.listen(({ type }) => { heard.push(type) }) } }], { state, log, listen: events.listen }, () => {})
    events.emit(problem)
    t.same(heard, ['problem'])
  })

  t.test('diagnostics_channel has one channel per type of event', async t => {
    const events = createEvents(() => {})
    const heard: unknown[] = []
    const listener = (message: unknown): void => { heard.push(message) }
    channel('fastify-shutdown:problem').subscribe(listener)
    const undo = diagnosticsChannelExporter(() => {}).start({ state, log, listen: events.listen }) as () => void
    events.emit(problem)
    events.emit({ type: 'waiting', phase: 'draining', elapsedMs: 0, remainingMs: 0, pending: [] })
    t.same(heard, [problem])
    undo()
    events.emit(problem)
    t.equal(heard.length, 1)
    channel('fastify-shutdown:problem').unsubscribe(listener)
  })

  t.end()
})

t.test('the log', t => {
  function written (event: ShutdownEvent): { level: string, data: any, line: string }[] { // any: each test looks into its own shape
    const lines: { level: string, data: unknown, line: string }[] = []
    const level = (level: string) => (data: unknown, line?: string) => { lines.push(line === undefined ? { level, data: null, line: data as string } : { level, data, line }) }
    const log = { info: level('info'), warn: level('warn'), error: level('error'), debug: level('debug') } as unknown as FastifyBaseLogger
    void logExporter(log).start({ state, log, listen (listener) { listener(event); return () => {} } })
    return lines
  }

  t.test('the log has a line for each phase', async t => {
    t.match(written({ type: 'phase', phase: 'draining', previous: 'lame-duck', reason, atMs: 5_000.4, lameDuckEnd: 'delay' }),
      [{ level: 'info', line: 'shutdown: draining', data: { shutdown: { phase: 'draining', previous: 'lame-duck', reason, atMs: 5_000 } } }])
  })

  t.test('the log names what is pending, twenty names at most', async t => {
    const pending = Array.from({ length: 10_000 }, (_, i) => `GET /${i}`)
    const waiting = (pending: readonly string[]): ShutdownEvent => ({ type: 'waiting', phase: 'draining', elapsedMs: 1_000.2, remainingMs: 2_000.7, pending })
    t.match(written(waiting(pending)), [{ level: 'info', line: 'shutdown: still waiting for GET /0, GET /1, GET /2 and 9997 more', data: { shutdown: { count: 10_000, elapsedMs: 1_000, remainingMs: 2_001 } } }])
    t.equal(written(waiting(pending))[0]?.data.shutdown.pending.length, 20)
    t.match(written(waiting(['resource db'])), [{ line: 'shutdown: still waiting for resource db' }])
    t.match(written(waiting([])), [{ line: "shutdown: still waiting for the server's own connections" }])
  })

  t.test('the log names the platform once, with each warning', async t => {
    const event: ShutdownEvent = { type: 'platform', platform: 'kubernetes', delay: 5_000, gracePeriod: 30_000, timeouts: { requests: 1, streams: 1, tasks: 1, resources: 1, total: 1 }, notes: ['note'], warnings: ['one', 'two'] }
    t.match(written(event), [{ level: 'info', line: 'graceful shutdown is ready (kubernetes)', data: { shutdown: { delay: 5_000 } } }, { level: 'info' }, { level: 'warn', line: 'one' }, { level: 'warn', line: 'two' }])
  })

  t.test('the log has no line for a success, and a line for each failure', async t => {
    const error = new Error('no')
    const cases: [ShutdownEvent, string, string][] = [
      [{ type: 'resource', result: resource('db', 'closed') }, 'debug', "shutdown: resource 'db' closed"],
      [{ type: 'resource', result: resource('db', 'forced', error) }, 'error', "shutdown: resource 'db' forced"],
      [{ type: 'hook', result: hook('pg', 'abandoned', error) }, 'error', "shutdown: hook 'pg' abandoned"],
      [{ type: 'task', result: { name: 'mail', outcome: 'completed', startedMs: 0, durationMs: 1 }, error: null }, 'debug', "shutdown: task 'mail' completed"],
      [{ type: 'task', result: { name: 'mail', outcome: 'cancelled', startedMs: 0, durationMs: 1 }, error }, 'debug', "shutdown: task 'mail' cancelled"],
      [{ type: 'task', result: { name: 'mail', outcome: 'abandoned', startedMs: 0, durationMs: 1 }, error }, 'error', "shutdown: task 'mail' abandoned"],
      [{ type: 'request-cut', what: 'request', name: 'GET /slow', ageMs: 5 }, 'warn', 'shutdown: cut request GET /slow'],
      [{ type: 'problem', message: 'odd', error }, 'error', 'shutdown: odd']
    ]
    for (const [event, level, line] of cases) {
      const [first, ...rest] = written(event)
      t.match(first, { level, line })
      t.same(rest, [])
      if (level === 'error') t.equal(first?.data.err, error)
    }
  })

  t.test('the log ends with the report, in which an error is its name, message and code', async t => {
    const failed = createReport(story(['clean', 'failed'], { resources: [resource('db', 'failed', Object.assign(new Error('no'), { code: 'ENO', secret: 1 }))], hooks: [hook('pg', 'closed')] }), counts)
    const [line] = written({ type: 'report', report: failed })
    t.match(line, { level: 'error', line: 'shutdown: failed in 12 ms: 5 completed, 1 rejected; failed db' })
    const { resources, hooks, errors } = JSON.parse(JSON.stringify(line?.data)).shutdown
    t.strictSame(resources[0].error, { name: 'Error', message: 'no', code: 'ENO' })
    t.equal(hooks[0].error, null)
    t.strictSame(errors, [{ name: 'Error', message: "Resource 'db' failed: no", code: 'ENO' }])
    t.match(written({ type: 'report', report: createReport(story(), counts) }), [{ level: 'info', line: 'shutdown: clean in 12 ms: 5 completed, 1 rejected' }])
  })

  t.test('the line of the report lists at most 100 items of each kind', async t => {
    const many = Array.from({ length: 100_000 }, (_, i) => ({ name: `task ${i}`, outcome: 'abandoned' as const, startedMs: 0, durationMs: 1 }))
    const [line] = written({ type: 'report', report: createReport(story(), { ...counts, tasks: many }) })
    t.ok(JSON.stringify(line?.data).length < 20_000)
  })

  t.test('a log whose methods reject causes no unhandled rejection', async t => {
    const rejecting = { info: async () => { throw new Error('no') } }
    const events = createEvents(() => {})
    logExporter(rejecting as unknown as FastifyBaseLogger).start({ state, log, listen: events.listen })
    events.emit({ type: 'report', report: createReport(story(), counts) })
    // tap fails a test if there is an unhandled rejection.
    await new Promise(resolve => { setImmediate(resolve) })
    t.pass()
  })

  t.test('the log is flushed if it can be, and delays the end only briefly', async t => {
    const time = virtualTime(t)
    await flushLog({} as FastifyBaseLogger)
    let flushed: unknown
    const log = { flush (callback: () => void) { flushed = this; callback() } }
    await time.until(flushLog(log as never))
    t.equal(flushed, log)
    const begin = time.now()
    await time.until(flushLog({ flush () {} } as never))
    t.equal(time.now() - begin, 1_000)
    await time.until(flushLog({ flush () { throw new Error('no') } } as never))
    t.equal(time.armed(), 0)
  })

  t.end()
})

t.test('the report', t => {
  t.test('the outcome is that of the worst phase, or failed if there is an error', async t => {
    t.match(createReport(story(), counts), { outcome: 'clean', exitCode: 0, startedAt: '1970-01-01T00:00:00.000Z', durationMs: 12.3, requests: { completed: 5 } })
    t.match(createReport(story(['forced']), counts), { outcome: 'forced', exitCode: 0 }, 'a client did not read its answer')
    t.match(createReport(story(['forced']), { ...counts, cutAtWork: 1 }), { outcome: 'forced', exitCode: 1 })
    t.match(createReport(story(['forced', 'failed']), counts), { outcome: 'failed', exitCode: 1 })
    t.match(createReport(story([], { problems: [new Error('crash')] }), counts), { outcome: 'failed', exitCode: 1, errors: [{ message: 'crash' }] })
    t.match(createReport(story([], { hooks: [hook('pg', 'failed', new Error('no'))] }), counts), { outcome: 'failed', errors: [{ message: "The onClose hook of 'pg' failed: no", cause: { message: 'no' } }] })
    t.notOk('cutAtWork' in createReport(story(), counts))
  })

  t.test('the report is frozen to its last level, its inputs are not', async t => {
    const tasks = [{ name: 'a', outcome: 'completed' as const, startedMs: 0, durationMs: 1 }]
    const cut = [{ method: 'GET', route: '/', ageMs: 5, category: null, waitsFor: 'app' as const }]
    const error = new Error('no')
    const detail = { buffer: Buffer.from('x'), self: {} }
    detail.self = detail
    const result = Object.freeze({ ...resource('db', 'failed', error), detail: Object.freeze(detail) })
    const report = createReport(story([], { resources: [result] }), { ...counts, tasks, requests: { ...counts.requests, cut } })
    for (const part of [report, report.phases, report.phases[0], report.requests, report.requests.cut, report.requests.cut[0], report.tasks, report.tasks[0], report.resources, report.resources[0]]) t.ok(Object.isFrozen(part))
    t.notOk(Object.isFrozen(error))
    t.equal(report.resources[0]?.error, error)
    t.doesNotThrow(() => { tasks.push(tasks[0]!); cut.push(cut[0]!) }, 'a task that ends later can still be recorded')
    t.equal(report.tasks.length, 1)
  })

  t.test('the report names every failure, and no success', async t => {
    const [one, two] = [new Error('one'), new Error('two')]
    const report = createReport(story([], {
      resources: [resource('ok', 'closed'), resource('forced', 'forced', one), resource('db', 'failed', one), resource('cache', 'abandoned', two)], hooks: [hook('pg', 'failed', two), hook('fine', 'closed')]
    }), counts)
    const failures = failuresOf(report)
    t.same(failures.map(({ message }) => message), ["Resource 'db' failed: one", "Resource 'cache' was abandoned: two", "The onClose hook of 'pg' failed: two"])
    t.equal(failures[0]?.cause, one)
    const error = new ShutdownTeardownError(failures)
    t.match(error, { code: 'FST_ERR_SHUTDOWN_TEARDOWN', name: 'ShutdownTeardownError', message: /^3 of .* did not close: Resource 'db' failed: one; Resource 'cache'/ })
    t.same(error.errors, failures)
  })

  t.end()
})

t.test('the state', t => {
  const set = (table: Partial<InFlightTable> = {}, why: ShutdownReason | null = null, booted = true): { state: ShutdownState, lifecycle: LifecycleControl } => {
    const lifecycle = createLifecycle(() => {})
    if (booted) lifecycle.boot()
    if (why !== null) begin(lifecycle, why)
    const none = { requests: 2, streams: 1, received: 10, completed: 5, rejected: 1, aborted: 1, cutCount: 0, list: () => [] }
    return {
      lifecycle,
      state: createState({ lifecycle, table: { ...none, ...table } as unknown as InFlightTable, tasks: createTasks(lifecycle, () => {}), webSockets: () => 3 })
    }
  }
  const begin = (lifecycle: LifecycleControl, why = reason): void => lifecycle.begin(why, { remaining: () => 1_234.6, limit: () => 0 })

  t.test('the state is live: ready while running, accepting until draining', async t => {
    const { state, lifecycle } = set()
    t.match(state, { phase: 'running', ready: true, accepting: true, reason: null, remaining: Infinity, activeRequests: 2, activeStreams: 1, activeWebSockets: 3, activeTasks: 0 })
    begin(lifecycle)
    lifecycle.enter('lame-duck')
    t.match(state, { phase: 'lame-duck', ready: false, accepting: true, remaining: 1_234.6 })
    lifecycle.enter('draining')
    t.match(state, { ready: false, accepting: false })
    t.match(set({}, null, false).state, { phase: 'running', ready: false })
  })

  t.test('the state is read-only', async t => {
    const { state } = set()
    t.throws(() => { (state as { phase: string }).phase = 'draining' }, TypeError)
    t.ok(Object.isFrozen(state))
  })

  t.test('the state as JSON has route patterns and numbers, but no ids and no error messages', async t => {
    const list: InFlightTable['list'] = () => Array.from({ length: 500 }, (_, i) => ({ id: `req-${i}`, method: 'GET', route: '/users/:id', ageMs: 5.6, category: null, kind: 'request' as const, waitsFor: 'app' as const }))
    const { state, lifecycle } = set({ list }, { kind: 'error', detail: 'connect postgres://me:secret@db' })
    const json = JSON.parse(JSON.stringify(state)) as { requests: unknown[], stats: unknown }
    t.equal(json.requests.length, 100, 'the JSON has no ten thousand lines')
    t.same(json.requests[0], { method: 'GET', route: '/users/:id', ageMs: 6, category: null, kind: 'request', waitsFor: 'app' })
    t.match(json, { remaining: 1_235, reason: { kind: 'error', detail: '' }, stats: { received: 10, completed: 5, rejected: 1, aborted: 1, cut: 0, tasksCompleted: 0 } })
    t.notMatch(JSON.stringify(state), /req-|secret/)
    lifecycle.enter('draining')
    t.match(state.toJSON(), { remaining: 1_235 })
    t.match(set({}, reason).state.toJSON(), { reason })
    t.match(set({}, { kind: 'start', detail: 'secret' }).state.toJSON(), { reason: { kind: 'start', detail: '' } })
    t.equal(state.requests().length, 500)
  })

  t.end()
})

t.test('the 503', async t => {
  const rejection = createRejection(given => given === state ? 7 : 8, () => state, () => {})
  const sent: unknown[] = []
  const res = new ServerResponse(new IncomingMessage(new Socket()))
  rejection.rejectRequest(Object.assign(res, { writeHead: (...head: unknown[]) => sent.push(...head), end: (body: string) => sent.push(body) }) as unknown as ServerResponse)
  const body = JSON.parse(String(sent[2])) as object
  t.match(body, { statusCode: 503, code: 'FST_ERR_SHUTDOWN_DRAINING', error: 'Service Unavailable' })
  t.match(sent, [503, { 'retry-after': 7, 'content-length': String(sent[2]).length, 'content-type': /json/ }])
  const [head, rest] = rejection.upgradeResponse().split('\r\n\r\n')
  t.match(head, /^HTTP\/1\.1 503 Service Unavailable\r\n/)
  t.match(head, /\r\nConnection: close\r\n/)
  t.match(head, /\r\nRetry-After: 7$/)
  t.same(JSON.parse(rest ?? ''), body)
  t.match(head, `Content-Length: ${rest?.length ?? 0}`)
  const { code, statusCode, message } = new ShutdownDrainingError()
  t.match(body, { code, statusCode, message }, 'the error that passes through the app')
  t.notMatch(new ShutdownDrainingError().stack, /\n {4}at /, 'the error is created for each response, so it has no stack')
})

t.test('categories', t => {
  const categories = new Map([['fast', 1_000], ['slow', 60_000]])
  const request = (category?: string): FastifyRequest => ({ routeOptions: { config: category === undefined ? {} : { shutdown: { category } } } }) as unknown as FastifyRequest

  t.test('the category of the route comes first, then categorize, else there is none', async t => {
    const onProblem = (message: string): void => { t.fail(message) }
    const { of } = createCategories({ categories, categorize: () => 'slow' }, onProblem)
    t.equal(of(request('fast')), 'fast')
    t.equal(of(request()), 'slow')
    t.equal(createCategories({ categories, categorize: () => undefined }, onProblem).of(request()), null)
    t.equal(createCategories({ categories, categorize: undefined }, onProblem).of(request()), null)
    t.equal(of({ routeOptions: {} } as FastifyRequest), 'slow', 'a 404 has no config')
  })

  t.test('an unknown category, or a function that throws, is reported and counts as none', async t => {
    const problems: unknown[] = []
    const of = (categorize: () => string): string | null => createCategories({ categories, categorize }, (_message, error) => problems.push(error)).of(request())
    t.equal(of(() => 'slo'), null)
    t.equal(of(() => { throw new Error('no') }), null)
    t.match(problems, [{ message: "Expected 'categorize' to return undefined or one of 'fast', 'slow', got 'slo' (string)" }, { message: 'no' }])
  })

  t.test('a route with an invalid option is an error', async t => {
    const check = (config: unknown, of: ReadonlyMap<string, number> = categories) => () => checkRoute('/x', config as never, of)
    for (const right of [undefined, {}, { category: 'fast', exempt: true }, { category: undefined }]) t.doesNotThrow(check(right))
    t.throws(check({ category: 'slo' }), { code: 'FST_ERR_SHUTDOWN_OPTION', message: "Expected 'config.shutdown.category' of route '/x' to be one of 'fast', 'slow', got 'slo' (string). Did you mean 'slow'?" })
    t.throws(check({ category: 'slow' }, new Map()), { message: "to be one of the option 'categories', which is empty" })
    t.throws(check({ exemt: true }), { message: "'config.shutdown.exemt' of route '/x' is not an option. Did you mean 'exempt'?" })
    t.throws(check({ exempt: 'yes' }), { message: "Expected 'config.shutdown.exempt' of route '/x' to be a boolean, got 'yes' (string)" })
    for (const wrong of [null, true, 'fast']) t.throws(check(wrong), { message: "Expected 'config.shutdown' of route '/x' to be an object, got " })
  })

  t.end()
})
