/**
 * Every option: its default, its valid values, and its errors. The defaults per platform, and how the timeouts fit in
 * them.
 */
import t, { type Test } from 'tap'
import { received } from '../lib/errors'
import { createLifecycle, type LifecycleControl } from '../lib/lifecycle/phases'
import { resolveOptions, type Settings } from '../lib/options'
import type { PlatformDefaults } from '../lib/times'
import { detectPlatform } from '../lib/process/platform'
import { createRejection } from '../lib/http/rejection'
import { suggest } from '../lib/util/did-you-mean'
import type { ShutdownOptions, ShutdownState } from '../types/index'

const fixed = (ms: number): Settings['delay'] => ({ min: ms, max: ms, quiet: 0 })
const plain: PlatformDefaults = { name: 'plain', delay: fixed(0), gracePeriod: null, gracePeriodKnown: false }
const state = {} as ShutdownState

/** Options as they come from JavaScript, without types. */
const resolve = (options: unknown = {}, platform = plain): Settings => resolveOptions(options as ShutdownOptions, platform)
const on = (env: Record<string, string>, options: unknown = {}, isWorker = false): Settings => resolve(options, detectPlatform(env, { isWorker }))

function refuses (t: Test, options: unknown, message: string | RegExp, code = 'FST_ERR_SHUTDOWN_OPTION'): void {
  t.throws(() => resolve(options), { code, message }, `throws for ${JSON.stringify(options)}`)
}

t.test('defaults', t => {
  t.test('without a platform every option has its documented default', async t => {
    const { retryAfter, refitTimeouts, ...settings } = resolve()
    t.strictSame(settings, {
      platform: 'plain',
      signals: ['SIGTERM', 'SIGINT'],
      uncaughtErrors: true,
      exit: true,
      delay: fixed(0),
      timeouts: { requests: 30_000, streams: 10_000, tasks: 10_000, resources: 10_000, total: 60_000 },
      givenTimeouts: new Set(),
      gracePeriod: null,
      newConnections: 'auto',
      errorResponseBuilder: undefined,
      categories: new Map(),
      categorize: undefined,
      track: 'count',
      probes: false,
      exporters: [],
      resources: {},
      webSocketMessage: undefined,
      onReport: undefined,
      warnings: []
    })
    t.equal(retryAfter(state), 10)
  })

  t.test('the timeouts that the user has set are known by name, and a value undefined is not set', async t => {
    t.strictSame(resolve({ timeouts: { streams: 5_000, tasks: undefined, total: 20_000 } }).givenTimeouts, new Set(['streams', 'total']))
    t.strictSame(resolve({ gracePeriod: 30_000 }).givenTimeouts, new Set())
  })

  t.test('uncaught errors and exit are handled if signals are, unless the options decide otherwise', async t => {
    t.match(resolve({ signals: false }), { signals: false, uncaughtErrors: false, exit: false })
    t.match(resolve({ signals: false, uncaughtErrors: true, exit: true }), { uncaughtErrors: true, exit: true })
    t.match(resolve({ uncaughtErrors: false, exit: false }), { signals: ['SIGTERM', 'SIGINT'], uncaughtErrors: false, exit: false })
  })

  t.test('an option with the value undefined has its default', async t => {
    t.strictSame(Object.keys(resolve({ delay: undefined, retryAfter: undefined, timeouts: { requests: undefined }, probes: undefined, newConnections: undefined, resources: undefined })), Object.keys(resolve()))
    t.equal(resolve({ timeouts: { requests: undefined } }).timeouts.requests, 30_000)
  })

  t.test("options of Fastify's own register() are accepted", async t => {
    t.doesNotThrow(() => resolve({ prefix: '/x', logLevel: 'warn', logSerializers: {} }))
  })

  t.end()
})

t.test('platforms', t => {
  const kubernetes = { KUBERNETES_SERVICE_HOST: '10.0.0.1' }
  const scaled = { requests: 7_000, streams: 2_333, tasks: 2_333, resources: 2_333, total: 14_000 }
  const range = { min: 5_000, max: 15_000, quiet: 1_000 }

  t.test('Kubernetes: 5 to 15 s of lame-duck, and a grace period of 30 s or as the environment sets it', async t => {
    t.match(on(kubernetes), { platform: 'kubernetes', delay: range, gracePeriod: 30_000, timeouts: scaled, warnings: [] })
    t.match(on({ ...kubernetes, TERMINATION_GRACE_PERIOD_SECONDS: '120' }), { delay: range, gracePeriod: 120_000, timeouts: { requests: 30_000, total: 60_000 } })
    t.match(on({ ...kubernetes, TERMINATION_GRACE_PERIOD_SECONDS: '30' }), { timeouts: scaled })
  })

  t.test('a default range takes at most half of the grace period, and leaves room for the times that the user set', async t => {
    t.match(on(kubernetes, { gracePeriod: 8_000 }), { delay: { min: 4_000, max: 4_000 }, timeouts: { total: 3_600 } })
    t.match(on(kubernetes, { gracePeriod: 20_000 }), { delay: { min: 5_000, max: 10_000 }, timeouts: { total: 9_000 } })
    t.match(on(kubernetes, { timeouts: { total: 20_000 } }), { delay: { min: 5_000, max: 9_000 }, warnings: [] })
    t.match(on(kubernetes, { timeouts: { requests: 18_000 } }), { delay: { min: 5_000, max: 11_000 }, timeouts: { total: 18_000 }, warnings: [] })
    t.throws(() => on(kubernetes, { gracePeriod: 30_000, timeouts: { total: 28_000 } }), { code: 'FST_ERR_SHUTDOWN_BUDGET', message: "'delay' (5000 ms)" }, 'its min is not shortened without a word')
    t.match(on({}, { gracePeriod: 1_000 }), { delay: { min: 0, max: 500, quiet: 500 } })
  })

  t.test('at the end of lame-duck, scaled timeouts are scaled again, and a time that the user set stays the same', async t => {
    const settings = on(kubernetes, { timeouts: { streams: 1_000 } })
    const { timeouts } = settings
    t.strictSame({ ...timeouts }, { ...scaled, streams: 1_000 })
    settings.refitTimeouts(5_000)
    t.strictSame({ ...timeouts }, { requests: 12_000, streams: 1_000, tasks: 4_000, resources: 4_000, total: 24_000 })
    const given = on(kubernetes, { timeouts: { total: 20_000 } })
    given.refitTimeouts(5_000)
    t.match(given.timeouts, { requests: 20_000, total: 20_000 })
    const without = resolve()
    without.refitTimeouts(0)
    t.match(without.timeouts, { requests: 30_000, total: 60_000 })
  })

  t.test('PM2: 1 s of lame-duck, and a grace period of 1 600 ms or its kill_timeout', async t => {
    t.match(on({ pm_id: '0' }), { platform: 'pm2', delay: fixed(1_000), gracePeriod: 1_600, timeouts: { requests: 260, streams: 87, tasks: 87, resources: 87, total: 520 } })
    t.match(on({ pm_id: '0', kill_timeout: '20000' }), { gracePeriod: 20_000, timeouts: { total: 18_000, requests: 9_000, resources: 3_000 } })
  })

  t.test('node:cluster: 1 s of lame-duck, and no grace period', async t => {
    t.match(on({}, {}, true), { platform: 'cluster', delay: fixed(1_000), gracePeriod: null, timeouts: { total: 60_000 } })
  })

  t.test('systemd: up to 2 s of lame-duck, and a grace period of 90 s', async t => {
    t.match(on({ NOTIFY_SOCKET: '/run/notify' }), { platform: 'systemd', delay: { min: 0, max: 2_000, quiet: 500 }, gracePeriod: 90_000, timeouts: { total: 60_000 } })
  })

  t.test('each default of a platform can be overridden', async t => {
    t.match(on(kubernetes, { delay: 0, gracePeriod: 60_000 }), { delay: fixed(0), gracePeriod: 60_000, timeouts: { total: 59_000, requests: 29_500 } })
  })

  t.end()
})

t.test('times', t => {
  t.test('if only the grace period is set, the timeouts are scaled to it, with a margin of a twentieth', async t => {
    t.match(resolve({ gracePeriod: 10_000 }).timeouts, { requests: 4_750, streams: 1_583, tasks: 1_583, resources: 1_583, total: 9_500 })
    t.match(resolve({ gracePeriod: 10_000, delay: 4_000 }).timeouts, { total: 5_500 })
    t.match(resolve({ gracePeriod: 40_000 }).timeouts, { total: 39_000 }, 'the margin is at most a second')
    t.match(resolve({ gracePeriod: 500_000 }).timeouts, { total: 60_000, requests: 30_000 }, 'timeouts are never scaled up')
    t.match(resolve({ gracePeriod: 3 }).timeouts, { total: 2, requests: 1, streams: 1, tasks: 1, resources: 1 }, 'timeouts are never scaled to 0')
  })

  t.test('a timeout that the user set is not scaled', async t => {
    t.strictSame(resolve({ gracePeriod: 10_000, timeouts: { requests: 8_000 } }).timeouts, { requests: 8_000, streams: 1_583, tasks: 1_583, resources: 1_583, total: 9_500 })
    t.strictSame(resolve({ timeouts: { total: 20_000 } }).timeouts, { requests: 20_000, streams: 10_000, tasks: 10_000, resources: 10_000, total: 20_000 })
  })

  t.test('times that do not fit into the grace period throw an error with all three numbers', async t => {
    refuses(t, { delay: 5_000, timeouts: { total: 60_000 }, gracePeriod: 30_000 },
      "'delay' (5000 ms) and 'timeouts.total' (60000 ms) make 65000 ms, which does not fit in the grace period of 30000 ms", 'FST_ERR_SHUTDOWN_BUDGET')
    refuses(t, { delay: 10_000, timeouts: { requests: 10_000, total: 25_000 }, gracePeriod: 30_000 }, 'make 35000 ms, which does not fit', 'FST_ERR_SHUTDOWN_BUDGET')
    refuses(t, { timeouts: { requests: 20_000, total: 10_000 } }, "'timeouts.requests' (20000 ms) does not fit in 'timeouts.total' (10000 ms)", 'FST_ERR_SHUTDOWN_BUDGET')
    refuses(t, { timeouts: { resources: 11_000 }, gracePeriod: 10_000 }, "'timeouts.resources' (11000 ms) does not fit in 'timeouts.total' (9500 ms)", 'FST_ERR_SHUTDOWN_BUDGET')
    refuses(t, { delay: 30_000, gracePeriod: 30_000 }, "'delay' (30000 ms) leaves no time for the rest of the shutdown in the grace period of 30000 ms", 'FST_ERR_SHUTDOWN_BUDGET')
    t.throws(() => on({ KUBERNETES_SERVICE_HOST: 'x', TERMINATION_GRACE_PERIOD_SECONDS: '30' }, { timeouts: { total: 40_000 } }), { code: 'FST_ERR_SHUTDOWN_BUDGET' })
    t.doesNotThrow(() => resolve({ delay: 5_000, timeouts: { requests: 10_000, total: 25_000 }, gracePeriod: 30_000 }), 'an exact fit is valid')
  })

  t.test("a platform's default grace period yields to the times that the user set, with a warning", async t => {
    const warned = (env: Record<string, string>, options: object): Settings => {
      const settings = on(env, options)
      t.match(settings.warnings, [/does not fit in the grace period of \d+ ms that is this platform's default; set 'gracePeriod' to the value of your deployment/])
      return settings
    }
    const kubernetes = { KUBERNETES_SERVICE_HOST: 'x' }
    t.equal(warned(kubernetes, { timeouts: { total: 50_000 } }).timeouts.total, 50_000)
    t.match(warned(kubernetes, { timeouts: { requests: 40_000 } }).timeouts, { requests: 40_000, total: 60_000 })
    t.match(warned(kubernetes, { delay: 30_000 }), { delay: fixed(30_000), timeouts: { total: 60_000 } })
    t.match(warned({ pm_id: '1' }, { delay: 2_000 }), { delay: fixed(2_000) })
    t.match(on(kubernetes, { timeouts: { requests: 24_000 } }), { warnings: [], timeouts: { requests: 24_000, total: 24_000 } }, 'the default is kept if the times fit into it')
  })

  t.test('only a number of milliseconds that a timer can hold is valid', async t => {
    refuses(t, { delay: '5s' }, "Expected 'delay' to be a number of milliseconds from 0 to 2147483647, or { min, max, quiet }, got '5s' (string)")
    refuses(t, { delay: { min: 5, max: 4 } }, "Expected 'delay.min' to be at most 'delay.max' (4 ms), got 5 (number)")
    refuses(t, { delay: {} }, "Expected 'delay.max' to be a number of milliseconds from 0 to 2147483647, got undefined (undefined)")
    refuses(t, { delay: { max: 5, quite: 1 } }, "'quite' is not a field of a delay")
    refuses(t, { delay: { max: 5, quiet: -1 } }, "Expected 'delay.quiet' to be a number of milliseconds from 0 to 2147483647, got -1 (number)")
    t.match(resolve({ delay: { max: 5_000 } }), { delay: { min: 0, max: 5_000, quiet: 1_000 } })
    for (const [value, text] of [[-1, '-1 (number)'], [NaN, 'NaN (number)'], [Infinity, 'Infinity (number)'], [2 ** 31, '2147483648 (number)'], [null, 'null (null)'], [{}, '{} (object)'], [5n, '5 (bigint)']] as const) {
      for (const name of ['delay', 'gracePeriod']) t.throws(() => resolve({ [name]: value }), { code: 'FST_ERR_SHUTDOWN_OPTION', message: name === 'delay' && text.startsWith('{}') ? 'got undefined' : `got ${text}` })
      for (const name of ['requests', 'streams', 'tasks', 'resources', 'total']) {
        t.throws(() => resolve({ timeouts: { [name]: value } }), { code: 'FST_ERR_SHUTDOWN_OPTION', message: `Expected 'timeouts.${name}' to be a number of milliseconds from 1 to 2147483647, got ${text}` })
      }
      t.throws(() => resolve({ categories: { slow: value } }), { code: 'FST_ERR_SHUTDOWN_OPTION', message: `Expected 'categories.slow' to be a number of milliseconds from 0 to 2147483647, got ${text}` })
    }
    refuses(t, { timeouts: { total: 0 } }, 'from 1 to')
    refuses(t, { gracePeriod: 0 }, 'from 1 to')
    refuses(t, { timeouts: 5_000 }, "Expected 'timeouts' to be an object, got 5000 (number)")
    refuses(t, { timeouts: [5] }, "Expected 'timeouts' to be an object, got [5] (array)")
    refuses(t, { timeouts: null }, "Expected 'timeouts' to be an object, got null (null)")
    refuses(t, { timeouts: { request: 5 } }, "'request' is not a timeout. Did you mean 'requests'?")
  })

  t.end()
})

t.test('retryAfter', t => {
  t.test('retryAfter is a number of whole seconds, a range of them, or a function', async t => {
    t.equal(resolve({ retryAfter: 0 }).retryAfter(state), 0)
    t.equal(resolve({ retryAfter: 120 }).retryAfter(state), 120)
    t.equal(resolve({ retryAfter: (given: ShutdownState) => given === state ? 7 : 8 }).retryAfter(state), 7)
  })

  t.test('retryAfter is drawn evenly from a range, both ends included', async t => {
    const { retryAfter } = resolve({ retryAfter: [2, 5] })
    const counts = new Map<number, number>()
    for (let i = 0; i < 4_000; i++) counts.set(retryAfter(state), (counts.get(retryAfter(state)) ?? 0) + 1)
    t.same([...counts.keys()].sort(), [2, 3, 4, 5])
    for (const count of counts.values()) t.ok(count > 800 && count < 1_200, `${count} of 4000`) // 6 standard deviations and more
    t.equal(resolve({ retryAfter: [3, 3] }).retryAfter(state), 3)
  })

  t.test('any other retryAfter throws', async t => {
    const bad: [unknown, string][] = [
      [-1, '-1 (number)'], [NaN, 'NaN (number)'], [1.5, '1.5 (number)'], [Infinity, 'Infinity (number)'], [{}, '{} (object)'], ['10', "'10' (string)"],
      ['10\r\nX: y', "'10\\r\\nX: y' (string)"], ['dix\u00e9', "'dix\u00e9' (string)"], [null, 'null (null)'], [2 ** 53, '9007199254740992 (number)'],
      [[], '[] (array)'], [[1], '[1] (array)'], [[5, 2], '[5,2] (array)'], [[1, 2, 3], '[1,2,3] (array)'], [[-1, 2], '[-1,2] (array)'], [[1, 1.5], '[1,1.5] (array)'], [['1', '2'], '["1","2"] (array)']
    ]
    for (const [value, text] of bad) {
      t.throws(() => resolve({ retryAfter: value }), {
        code: 'FST_ERR_SHUTDOWN_OPTION', message: `Expected 'retryAfter' to be a whole number of seconds >= 0, a range [min, max], or a function that returns a number, got ${text}`
      })
    }
  })

  t.test('the default replaces an invalid result of the function, and is reported', async t => {
    const problems: unknown[] = []
    for (const wrong of ['10\r\nX: y', -1, NaN, 1.5, undefined, Promise.resolve(5)]) {
      t.equal(createRejection(() => wrong as number, () => state, (...problem) => problems.push(problem)).retryAfter(), 10)
    }
    t.equal(createRejection(() => { throw new Error('broken') }, () => state, (...problem) => problems.push(problem)).retryAfter(), 10)
    t.equal(problems.length, 7)
    t.match(problems[0], ["'retryAfter' failed: 10 is sent", { code: 'FST_ERR_SHUTDOWN_OPTION', message: "got '10\\r\\nX: y' (string)" }])
    t.match(problems[6], [String, { message: 'broken' }])
  })

  t.end()
})

t.test('the other options', t => {
  t.test('an unknown name throws, and the error suggests the nearest name', async t => {
    refuses(t, { retryafter: 5 }, "'retryafter' is not an option. Did you mean 'retryAfter'?")
    refuses(t, { timeout: 5 }, "'timeout' is not an option. Did you mean 'timeouts'?")
    refuses(t, { banana: 5 }, /^'banana' is not an option$/)
    refuses(t, JSON.parse('{"__proto__":{"delay":5}}'), "'__proto__' is not an option")
    for (const options of [null, 'x', 5, []]) refuses(t, options, /^Expected 'options' to be an object, got /)
  })

  t.test('signals', async t => {
    t.same(resolve({ signals: ['SIGHUP', 'SIGHUP', 'SIGUSR2'] }).signals, ['SIGHUP', 'SIGUSR2'])
    refuses(t, { signals: ['SIGKILL'] }, "Expected 'signals' to be signals out of SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR2, got 'SIGKILL' (string)")
    refuses(t, { signals: ['SIGTERM', 15] }, 'got 15 (number)')
    for (const signals of [true, 'SIGTERM', [], null]) refuses(t, { signals }, "Expected 'signals' to be false or a list of signals out of")
  })

  t.test('booleans', async t => {
    refuses(t, { uncaughtErrors: 'yes' }, "Expected 'uncaughtErrors' to be a boolean, got 'yes' (string)")
    refuses(t, { exit: 1 }, "Expected 'exit' to be a boolean, got 1 (number)")
    refuses(t, { exit: null }, "Expected 'exit' to be a boolean, got null (null)")
  })

  t.test('words', async t => {
    for (const refuse of ['auto', 'answer', 'refuse']) t.equal(resolve({ newConnections: refuse }).newConnections, refuse)
    for (const track of ['count', 'category', 'detail']) t.equal(resolve({ track }).track, track)
    refuses(t, { newConnections: 'reset' }, "Expected 'newConnections' to be one of 'auto', 'answer', 'refuse', got 'reset' (string)")
    refuses(t, { track: true }, "Expected 'track' to be one of 'count', 'category', 'detail', got true (boolean)")
    refuses(t, { track: null }, 'got null (null)')
  })

  t.test('names and values from before version 1.0 throw, and the error has the new name', async t => {
    refuses(t, { errors: true }, "'errors' was renamed to 'uncaughtErrors'")
    refuses(t, { refuse: 'auto' }, "'refuse' was renamed to 'newConnections'")
    refuses(t, { rejection: () => 'busy' }, "'rejection' was renamed to 'errorResponseBuilder'")
    refuses(t, { newConnections: 'close' }, "'newConnections: 'close'' was renamed to 'newConnections: 'refuse''")
    refuses(t, { probes: { live: '/live' } }, "'live' was renamed to 'liveness'")
    refuses(t, { probes: { ready: '/ready' } }, "'ready' was renamed to 'readiness'")
  })

  t.test('functions', async t => {
    for (const name of ['errorResponseBuilder', 'categorize', 'onReport'] as const) {
      const given = (): undefined => undefined
      t.equal(resolve({ [name]: given })[name], given)
      refuses(t, { [name]: 'x' }, `Expected '${name}' to be a function, got 'x' (string)`)
    }
  })

  t.test('categories turn on tracking by category, unless track is set', async t => {
    const { categories, track } = resolve({ categories: { fast: 1_000, slow: 60_000 } })
    t.same([...categories], [['fast', 1_000], ['slow', 60_000]])
    t.equal(track, 'category')
    t.equal(resolve({ categories: { fast: 1 }, track: 'detail' }).track, 'detail')
    refuses(t, { categories: ['fast'] }, 'Expected \'categories\' to be an object of name -> milliseconds, got ["fast"] (array)')
    refuses(t, { categories: null }, 'got null (null)')
  })

  t.test('probes', async t => {
    t.strictSame(resolve({ probes: true }).probes, { liveness: '/health/live', readiness: '/health/ready', startup: '/health/startup', checks: undefined })
    const checks = { db: () => true, cache: { check: () => true, timeout: 500 } }
    t.strictSame(resolve({ probes: { liveness: '/live', startup: false, checks } }).probes, { liveness: '/live', readiness: '/health/ready', startup: false, checks })
    refuses(t, { probes: 'yes' }, "Expected 'probes' to be a boolean or an object, got 'yes' (string)")
    refuses(t, { probes: null }, "Expected 'probes' to be a boolean or an object, got null (null)")
    refuses(t, { probes: { livenes: '/x' } }, "'livenes' is not a probe. Did you mean 'liveness'?")
    for (const path of ['live', '', true, null]) refuses(t, { probes: { readiness: path } }, "Expected 'probes.readiness' to be a path that begins with '/', or false, got ")
    refuses(t, { probes: { checks: [] } }, "Expected 'probes.checks' to be an object of name -> function, got [] (array)")
    refuses(t, { probes: { checks: { db: 5 } } }, "Expected 'probes.checks.db' to be a function, or { check, timeout }, got 5 (number)")
    refuses(t, { probes: { checks: { db: { timeout: 5 } } } }, "Expected 'probes.checks.db' to be a function, or { check, timeout }")
    refuses(t, { probes: { checks: { db: { check () {}, timeout: '2s' } } } }, "Expected 'probes.checks.db.timeout' to be a number of milliseconds from 1")
  })

  t.test('exporters', async t => {
    const exporter = { name: 'x', start () {} }
    t.same(resolve({ exporters: [exporter] }).exporters, [exporter])
    refuses(t, { exporters: exporter }, "Expected 'exporters' to be a list of exporters")
    refuses(t, { exporters: [{}] }, "Expected 'exporters' to be objects with a function `start`, got {} (object)")
    refuses(t, { exporters: [null] }, 'got null (null)')
  })

  t.test('resources are passed on, and clients as well', async t => {
    const resources = { db: { client: {} } }
    t.equal(resolve({ resources }).resources, resources)
    for (const wrong of [[], 'db', null]) refuses(t, { resources: wrong }, "Expected 'resources' to be an object of name -> resource, got ")
  })

  t.test('webSocketMessage', async t => {
    t.equal(resolve({ webSocketMessage: 'bye' }).webSocketMessage, 'bye')
    t.same(resolve({ webSocketMessage: Buffer.from('bye') }).webSocketMessage, Buffer.from('bye'))
    t.equal(resolve({ webSocketMessage: true }).webSocketMessage, '{"type":"close","reason":"server_shutdown"}')
    t.equal(resolve({ webSocketMessage: false }).webSocketMessage, undefined)
    refuses(t, { webSocketMessage: 5 }, "Expected 'webSocketMessage' to be a boolean, a string or a Buffer, got 5 (number)")
  })

  t.end()
})

t.test('how a value is shown in an error message', async t => {
  const circle: Record<string, unknown> = {}
  circle.circle = circle
  const cases: [unknown, string][] = [
    ['a\r\nb\u0000', "'a\\r\\nb\\u0000' (string)"], ['x'.repeat(99), `'${'x'.repeat(60)}' (string)`], [undefined, 'undefined (undefined)'], [Symbol('s'), 'Symbol(s) (symbol)'],
    [() => {}, 'anonymous (function)'], [function named () {}, 'named (function)'], [circle, '[object Object] (object)'], [{ toJSON () { throw new Error('no') } }, '[object Object] (object)'],
    [Object.create(null), '{} (object)'], [{ toJSON: () => undefined }, '[object Object] (object)'], [{ a: 'x'.repeat(99) }, `{"a":"${'x'.repeat(74)} (object)`]
  ]
  for (const [value, text] of cases) t.equal(received(value), text)
})

t.test('an error message shows no password', async t => {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  t.equal(received(proxy), 'a value that cannot be read (object)')
  const values: unknown[] = [
    'postgres://user:hunter2@db/app', 'redis://:hunter2@cache', 'postgres://u:hun/ter2@x@h/db?sslpassword=hunter2',
    'host=db password=hunter2', "Server=a;Pwd='hunter2 b';", 'user:hunter2@tcp(db)/app', 'https://hunter2@sentry.io/4',
    `amqp://user:${'x'.repeat(70)}hunter2@mq`, '{"password":"hunter2"}', 'authorization: Bearer hunter2',
    { connectionString: 'postgres://u:hunter2@db' }, { host: 'db', password: 'hunter2' }, [{ auth: { pass: 'hunter2' } }],
    { apiKey: 'hunter2' }, new URL('amqp://u:hunter2@mq'), { toJSON: () => 'postgres://u:hunter2@db' }
  ]
  for (const value of values) t.notMatch(received(value), /ter2/)
  t.equal(received('postgres://user:hunter2@db/app'), "'postgres://***@db/app' (string)")
  t.equal(received('http://example.com/a:b'), "'http://example.com/a:b' (string)")
})

t.test('did-you-mean suggestions', async t => {
  t.equal(suggest('redi', ['postgres', 'redis']), ". Did you mean 'redis'?")
  t.equal(suggest('REDIS', ['redis']), ". Did you mean 'redis'?")
  t.equal(suggest('postgers', ['postgres', 'redis']), ". Did you mean 'postgres'?")
  t.equal(suggest('mongo', ['postgres', 'redis']), '')
  t.equal(suggest('ab', ['a', 'abc', 'b']), ". Did you mean 'a'?", 'the first of the nearest names')
  t.equal(suggest('x', []), '')
})

t.test('phases', t => {
  const line = (problems: unknown[] = []): LifecycleControl => createLifecycle(error => problems.push(error))

  t.test('phases only go forward, and may be skipped', async t => {
    const phase = line()
    t.equal(phase.phase, 'running')
    t.ok(phase.hasReached('running'))
    t.notOk(phase.hasReached('lame-duck'))
    const { enter } = phase
    t.equal(enter('draining'), 'running')
    t.ok(phase.hasReached('lame-duck'), 'a skipped phase is past')
    for (const past of ['running', 'lame-duck', 'draining'] as const) t.throws(() => phase.enter(past), { code: 'FST_ERR_SHUTDOWN_PHASE', message: `'${past}' cannot follow 'draining'` })
    t.equal(phase.phase, 'draining')
    t.equal(phase.enter('cleaning'), 'draining')
  })

  t.test('an unknown phase throws', async t => {
    t.throws(() => line().on('drain' as never, () => {}), { code: 'FST_ERR_SHUTDOWN_PHASE', message: /^'drain' is not a phase/ })
    t.throws(() => line().on('drainin' as never, () => {}), { message: "'drainin' is not a phase. Did you mean 'draining'?" })
    t.throws(() => line().on(undefined as never, () => {}), { message: "'undefined' is not a phase" })
  })

  t.test('a listener is called when its phase is entered; a function that is added twice is called twice', async t => {
    const phase = line()
    const heard: string[] = []
    const listener = (entered: string): void => { heard.push(`${entered} ${phase.phase}`) }
    const undo = phase.on('draining', listener)
    phase.on('draining', listener)
    phase.on('cleaning', listener)
    undo()
    undo()
    phase.enter('draining')
    t.same(heard, ['draining draining'])
  })

  t.test('a listener that throws or rejects stops no other listener and is reported', async t => {
    const problems: unknown[] = []
    const phase = line(problems)
    const heard: string[] = []
    phase.on('draining', () => { throw new Error('thrown') })
    phase.on('draining', async () => { throw new Error('rejected') })
    phase.on('draining', () => { heard.push('draining') })
    phase.enter('draining')
    await Promise.resolve()
    t.same(heard, ['draining'])
    t.match(problems, [{ message: 'thrown' }, { message: 'rejected' }])
  })

  t.test('a listener may remove itself, and a listener that it adds has missed its phase', async t => {
    const phase = line()
    const heard: number[] = []
    const undo = phase.on('draining', () => { undo(); heard.push(1); phase.on('draining', () => { heard.push(3) }) })
    phase.on('draining', () => { heard.push(2) })
    phase.enter('draining')
    t.same(heard, [1, 2])
  })

  t.end()
})
