/** The assertions of the test kit, on real reports. */
import { AssertionError } from 'node:assert'
import fastifyPlugin from 'fastify-plugin'
import t, { type Test } from 'tap'
import { assertClean, assertNothingLost, assertOrder, inFlight, shutDown, stuck } from '../../lib/testing'
import type { ShutdownReport } from '../../types/index'
import { build, type Setup } from '../helpers/serve'

const timeouts = { requests: 50, streams: 50, tasks: 50, resources: 100, total: 1_000 }

async function reportOf (t: Test, setup: Setup = {}): Promise<ShutdownReport> {
  return await shutDown((await build(t, { ...setup, options: { timeouts, ...setup.options } })).app)
}

/** Calls an assertion that must fail. @returns its error */
function failureOf (assertion: () => void): AssertionError {
  try {
    assertion()
  } catch (error) {
    if (error instanceof AssertionError) return error
    throw error
  }
  throw new Error('the assertion has passed')
}

t.test('a clean report passes, also as JSON', async t => {
  const report = await reportOf(t, { options: { resources: { db: { close () {} } } } })
  for (const each of [report, JSON.parse(JSON.stringify(report)) as ShutdownReport]) {
    assertClean(each)
    assertNothingLost(each)
    assertOrder(each, ['db'])
    assertOrder(each, [])
  }
  t.pass()
})

t.test('a report with a cut request, a failed task, and resources that failed and were forced', async t => {
  const { app } = await build(t, {
    options: { timeouts, resources: { db: { async close () { throw new Error('no connection') } }, redis: stuck({ force () {} }), mail: stuck() } },
    routes: app => { app.get('/slow/:id', async () => await new Promise(() => {})) }
  })
  await inFlight(app, '/slow/7')
  app.shutdown.task('invoice', signal => new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error('no paper')))
  })).catch(() => {})
  app.shutdown.waitUntil(new Promise(() => {}), { name: 'upload' })
  const report = await shutDown(app)

  for (const each of [report, JSON.parse(JSON.stringify(report)) as ShutdownReport]) {
    const clean = failureOf(() => assertClean(each))
    t.equal(clean.message, [
      "Expected a clean shutdown, but its outcome is 'failed':",
      '  - GET /slow/:id was cut while it waited for the app',
      "  - resource 'redis' was forced",
      "  - Task 'invoice' failed: no paper",
      "  - Task 'upload' abandoned: Task 'upload' did not finish in 50 ms",
      "  - Resource 'db' failed: no connection",
      "  - Resource 'mail' was abandoned: Resource 'mail' did not finish in 100 ms"
    ].join('\n'))
    t.match(clean, { code: 'ERR_ASSERTION', actual: 'failed', expected: 'clean', operator: 'assertClean' })
    t.match(clean.stack?.split('\n').find(line => line.trimStart().startsWith('at ')), /assertions\.test/, 'its stack begins in the test')
    t.equal(failureOf(() => assertNothingLost(each)).message, [
      'Expected that nothing is lost, but:',
      '  - GET /slow/:id was cut while it waited for the app',
      "  - task 'invoice' failed",
      "  - task 'upload' was abandoned"
    ].join('\n'))
  }
})

t.test('each other loss has a line, and a report whose parts are clean names the phase', async t => {
  const report = await reportOf(t)
  const lost: ShutdownReport = {
    ...report, outcome: 'forced', streams: { ended: 0, cut: 2 }, webSockets: { closed: 0, terminated: 1 }, http2Sessions: { closed: 0, destroyed: 1 }
  }
  const clean = failureOf(() => assertClean(lost)).message
  for (const line of ['2 streams were cut', '1 WebSocket was terminated', '1 HTTP/2 session was destroyed']) t.match(clean, line)
  const losses = failureOf(() => assertNothingLost(lost)).message
  for (const line of ['2 streams were cut', '1 WebSocket was terminated']) t.match(losses, line)
  const phases = report.phases.map(phase => phase.phase === 'draining' ? { ...phase, outcome: 'forced' as const } : phase)
  t.match(failureOf(() => assertClean({ ...report, outcome: 'forced', phases })).message, 'phase draining was forced')
})

t.test('a rejected request and a failed resource are not losses', async t => {
  const report = await reportOf(t, { options: { resources: { db: { close () { throw new Error('no') } } } } })
  assertNothingLost({ ...report, requests: { ...report.requests, rejected: 3, aborted: 1 } })
  t.throws(() => assertClean(report))
})

t.test('the order of resources and plugins', async t => {
  const client = fastifyPlugin(async app => { app.addHook('onClose', async () => { await new Promise(resolve => { setTimeout(resolve, 5) }) }) }, { name: 'client' })
  const wait = (): Promise<void> => new Promise(resolve => { setTimeout(resolve, 20) })
  const report = await reportOf(t, {
    options: {
      resources: {
        postgres: { close: wait },
        redis: { dependsOn: ['postgres'], close: wait },
        worker: { dependsOn: ['redis', 'client'], close: wait },
        other: { close: wait }
      }
    },
    routes: async app => { await app.register(client) }
  })
  assertOrder(report, ['worker', 'redis', 'postgres'])
  assertOrder(report, ['worker', 'postgres'])
  assertOrder(report, ['worker', 'client'])

  t.test('another order names the two, and all times', async t => {
    const error = failureOf(() => assertOrder(report, ['worker', 'postgres', 'redis']))
    t.match(error.message, new RegExp([
      "^Expected that 'postgres' is closed before 'redis' begins to close, but:",
      '  - worker closed from [\\d.]+ ms to [\\d.]+ ms',
      '  - redis closed from [\\d.]+ ms to [\\d.]+ ms',
      '  - postgres closed from [\\d.]+ ms to [\\d.]+ ms$'
    ].join('\n')))
    t.strictSame([error.actual, error.expected], [['worker', 'redis', 'postgres'], ['worker', 'postgres', 'redis']])
  })

  t.test('resources that close in parallel have no order', async t => {
    for (const names of [['redis', 'other'], ['other', 'redis'], ['redis', 'redis']]) t.throws(() => assertOrder(report, names), { code: 'ERR_ASSERTION' })
  })

  t.test('an unknown name', async t => {
    t.equal(failureOf(() => assertOrder(report, ['worker', 'postgrs'])).message,
      "The report has no resource or hook 'postgrs'. Did you mean 'postgres'?\n  - It has client, postgres, redis, worker, other")
    t.match(failureOf(() => assertOrder({ ...report, resources: [], hooks: [] }, ['db'])).message, /It has none/)
  })

  t.test('under a fake clock all times are equal, and only the dependencies count', async t => {
    const still: ShutdownReport = { ...report, resources: report.resources.map(each => ({ ...each, startedMs: 5, durationMs: 0 })) }
    assertOrder(still, ['worker', 'redis', 'postgres'])
    assertOrder(still, ['worker', 'postgres'])
    for (const names of [['postgres', 'redis'], ['other', 'worker']]) t.throws(() => assertOrder(still, names), { code: 'ERR_ASSERTION' })
  })
})
