/** Health routes, as load balancers and orchestrators use them. */
import underPressure from '@fastify/under-pressure'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { now } from '../../lib/util/time'
import { createDeferred } from '../../lib/util/deferred'
import type { Check, Probes, ShutdownOptions } from '../../types/index'
import { settled, virtualTime, type Time } from '../helpers/time'
import { connect, fetchOnce, get } from '../helpers/client'
import { build, entered, serve, serveHeld } from '../helpers/serve'

const routes = ['live', 'ready', 'startup'] as const

/** The status of each of the three routes, on a new connection each, as a probe asks. */
async function probe (app: FastifyInstance): Promise<Record<(typeof routes)[number], number>> {
  const answers = await Promise.all(routes.map(name => fetchOnce(app, get(`/health/${name}`))))
  return Object.fromEntries(routes.map((name, i) => [name, answers[i]!.status])) as Record<(typeof routes)[number], number>
}

/** An app with these checks, and a function that requests its readiness. */
async function checked (t: Test, checks: NonNullable<Probes['checks']>): Promise<{ ready(): Promise<{ status: number, body: unknown }>, log: string[] }> {
  const log: string[] = []
  const { app } = await build(t, {
    fastify: { logger: { level: 'error', stream: { write: (line: string) => { log.push(line) } } } },
    options: { probes: { checks } }
  })
  return {
    log,
    async ready () {
      const { statusCode, body } = await app.inject('/health/ready')
      return { status: statusCode, body: JSON.parse(body) }
    }
  }
}

interface Run {
  readonly signal: AbortSignal
  resolve(value: unknown): void
  reject(reason: unknown): void
}

/** A check whose runs settle when the test decides, or as `onStart` does. */
function scripted (onStart: (run: Run) => void = () => {}): { check: Check, readonly runs: Run[], mostPending(): number } {
  const runs: Run[] = []
  let pending = 0
  let most = 0
  return {
    runs,
    mostPending: () => most,
    check (signal) {
      most = Math.max(most, ++pending)
      const result = new Promise((resolve, reject) => {
        const run = { signal, resolve, reject }
        runs.push(run)
        onStart(run)
      })
      const over = (): void => { pending-- }
      result.then(over, over)
      return result
    }
  }
}

/** A prober in virtual time that sends each probe without waiting for the previous response. */
function probeEvery (time: Time, ready: () => Promise<{ status: number }>, interval: number) {
  const began = time.now()
  const answers: { at: number, took: number, status: number }[] = []
  return {
    answers,
    async during (duration: number): Promise<void> {
      for (let left = duration; left > 0; left -= interval) {
        const asked = time.now()
        void ready().then(({ status }) => { answers.push({ at: time.now() - began, took: time.now() - asked, status }) })
        await time.pass(Math.min(interval, left))
      }
    },
    firstReady: () => answers.find(({ status }) => status === 200)?.at ?? Infinity
  }
}

t.test('without the option there are no health routes', async t => {
  const { app } = await serve(t)
  t.strictSame(await probe(app), { live: 404, ready: 404, startup: 404 })
})

t.test('a running service is alive, ready and started, and its responses are not cached', async t => {
  const { app } = await serve(t, { options: { probes: true } })
  for (const name of routes) {
    const { status, headers, body } = await fetchOnce(app, get(`/health/${name}`))
    t.strictSame([status, headers['cache-control'], JSON.parse(body)], [200, 'no-store', { status: 'ok' }], name)
  }
})

t.test('HEAD responds as GET does, without a body', async t => {
  for (const fastify of [{}, { exposeHeadRoutes: false }]) {
    const { app } = await serve(t, { fastify, options: { delay: 300, probes: true } })
    const client = await connect(app)
    t.teardown(() => client.socket.destroy())
    for (const name of routes) {
      client.send(get(`/health/${name}`, {}, 'HEAD'))
      t.equal((await client.answer(true)).status, 200, name)
    }
    void app.shutdown.start()
    client.send(get('/health/ready', {}, 'HEAD'))
    const { status, headers } = await client.answer(true)
    t.strictSame([status, headers['retry-after'], headers['content-length']], [503, '10', '24'])
    t.equal(client.rest, '')
  }
})

t.test('each route has the path of its option, and does not exist without one', async t => {
  const { app } = await serve(t, { options: { probes: { liveness: '/alive', readiness: '/a/ready', startup: false } } })
  const statusOf = async (path: string): Promise<number> => (await fetchOnce(app, get(path))).status
  t.strictSame(await Promise.all(['/alive', '/a/ready', '/health/live', '/health/ready', '/health/startup'].map(statusOf)), [200, 200, 404, 404, 404])
})

t.test('a prefix does not change the paths', async t => {
  const { app } = await build(t, { options: { probes: true, prefix: '/api' } as ShutdownOptions })
  const statusOf = async (path: string): Promise<number> => (await app.inject(path)).statusCode
  t.strictSame(await Promise.all(['/health/live', '/api/health/live'].map(statusOf)), [200, 404])
})

t.test('a route of the app with the same path is an error that names the route', async t => {
  const { app } = await build(t, { options: { probes: true } })
  t.throws(() => app.get('/health/live', async () => 'mine'), { code: 'FST_ERR_DUPLICATED_ROUTE', message: /\/health\/live/ })
})

t.test('a service that still boots answers no probe', async t => {
  const boot = createDeferred<void>()
  const { app } = await build(t, {
    options: { probes: true },
    routes: app => { app.addHook('onReady', () => boot.promise) }
  })
  const listening = app.listen({ port: 0, host: '127.0.0.1' })
  let answered = false
  const asked = app.inject('/health/startup').then(answer => {
    answered = true
    return answer
  })
  await new Promise(resolve => { setImmediate(resolve) })
  t.strictSame([answered, app.server.listening], [false, false])
  boot.resolve()
  await listening
  t.equal((await asked).statusCode, 200)
})

t.test('readiness is 503 from the start of lame-duck, liveness is 200 as long as the server accepts connections', async t => {
  // Without `newConnections: 'answer'` a new connection is refused after lame-duck.
  const { app, release, report } = await serveHeld(t, { options: { delay: 300, newConnections: 'answer', probes: true } })
  const kept = await connect(app)
  t.teardown(() => kept.socket.destroy())
  kept.send(get('/health/ready'))
  t.equal((await kept.answer()).status, 200)

  let first = app.inject('/health/ready')
  t.equal((await first).statusCode, 200, 'right before the shutdown')
  // Our own listeners run first, in the very turn in which the phase is entered.
  app.shutdown.on('lame-duck', () => { first = app.inject('/health/ready') })
  void app.shutdown.start()
  t.strictSame([(await first).statusCode, app.shutdownState.phase], [503, 'lame-duck'])
  kept.send(get('/health/ready'))
  const { status, headers, body } = await kept.answer()
  t.strictSame([status, headers['retry-after'], headers.connection, JSON.parse(body)], [503, '10', 'close', { status: 'unavailable' }])
  t.strictSame(await probe(app), { live: 200, ready: 503, startup: 200 })

  await entered(app, 'draining')
  t.strictSame(await probe(app), { live: 200, ready: 503, startup: 200 })
  release()
  t.match(await report, { outcome: 'clean', requests: { rejected: 0 } })
})

t.test('the result of a check', async t => {
  const secret = 'connect ECONNREFUSED postgres://me:secret@db:5432'
  const wrong = new Error(secret)
  const failing: Record<string, Check> = {
    throws () { throw wrong },
    'rejects with an error': async () => { throw wrong },
    'rejects with nothing': () => Promise.reject(undefined), // eslint-disable-line prefer-promise-reject-errors
    'rejects with a text': () => Promise.reject(secret),
    'returns false': () => false,
    'resolves to false': async () => false,
    'has a then that throws': () => ({ then () { throw wrong } })
  }
  for (const [name, check] of Object.entries(failing)) {
    await t.test(`a check that ${name} makes the service unready, shows its name and nothing else, and logs the error`, async t => {
      const { ready, log } = await checked(t, { fine: () => 'yes', database: check })
      t.strictSame(await ready(), { status: 503, body: { status: 'unavailable', failed: ['database'] } })
      t.match(log.map(line => JSON.parse(line).msg), ["shutdown: The check 'database' failed"])
    })
  }

  for (const value of [undefined, null, 0, '', NaN, 'no', [], { ok: false }, new Error('x')]) {
    await t.test(`any result but false is healthy: ${String(value)}`, async t => {
      const { ready } = await checked(t, { database: async () => value })
      t.strictSame(await ready(), { status: 200, body: { status: 'ok' } })
    })
  }
})

t.test('a check that hangs costs its own timeout, once for all probes, and delays no other check', async t => {
  let other = 0
  const database = scripted()
  const { ready, log } = await checked(t, { database: { timeout: 600, check: database.check }, other: () => { other++ } })
  const began = now()
  const answers = await Promise.all([ready(), ready(), ready()])
  const took = now() - began
  t.ok(took > 590 && took < 1_100, `${took} ms`)
  for (const each of answers) t.strictSame(each, { status: 503, body: { status: 'unavailable', failed: ['database'] } })
  t.strictSame([database.runs.length, other], [1, 1])
  t.equal(log.length, 1)
  t.match(JSON.parse(log[0]!), { msg: "shutdown: The check 'database' failed", err: { message: 'It took longer than 600 ms' } })
})

t.test('a run of a check that exceeds its timeout is abandoned', async t => {
  t.test('the next probe starts a new run, and readiness returns', async t => {
    const database = scripted()
    const { ready, log } = await checked(t, { database: database.check })
    const time = virtualTime(t)
    t.equal((await time.until(ready())).status, 503)
    const again = ready()
    await settled()
    t.equal(database.runs.length, 2)
    database.runs[1]!.resolve(undefined)
    t.equal((await again).status, 200)
    t.strictSame([time.now(), log.length], [2_001, 1], 'no time has passed')
  })

  t.test('a late success of the old run is ignored', async t => {
    const database = scripted()
    const { ready } = await checked(t, { database: database.check })
    const time = virtualTime(t)
    await time.until(ready())
    const during = ready()
    await settled()
    database.runs[0]!.resolve(undefined)
    t.equal((await time.until(during)).status, 503, 'while the next run is pending')
    database.runs[1]!.resolve(undefined)
    await time.pass(501)
    const after = ready()
    await settled()
    t.equal(database.runs.length, 3, 'while no run is pending')
    database.runs[2]!.resolve(false)
    t.equal((await after).status, 503)
  })

  t.test('a late rejection of the old run is handled', async t => {
    const unhandled: unknown[] = []
    const listener = (reason: unknown): void => { unhandled.push(reason) }
    process.on('unhandledRejection', listener)
    t.teardown(() => process.removeListener('unhandledRejection', listener))
    const database = scripted()
    const { ready } = await checked(t, { database: database.check })
    const time = virtualTime(t)
    await time.until(ready())
    database.runs[0]!.reject(new Error('connection lost'))
    await settled()
    await settled()
    t.strictSame(unhandled, [])
  })

  t.test('the signal of a check aborts at its timeout; a check that obeys it has one run at a time and recovers at once', async t => {
    let works = false
    let reason: unknown
    const database = scripted(({ signal, resolve, reject }) => {
      if (works) return resolve(undefined)
      signal.addEventListener('abort', () => {
        reason = signal.reason
        reject(reason)
      })
    })
    const { ready } = await checked(t, { database: database.check })
    const time = virtualTime(t)
    const probes = probeEvery(time, ready, 500)
    await probes.during(300_000)
    t.match(reason, { name: 'TimeoutError', message: 'The check took longer than 2000 ms' })
    t.equal(database.mostPending(), 1)
    works = true
    await probes.during(3_000)
    t.ok(probes.firstReady() < 302_500, `ready at ${probes.firstReady()} ms`)
  })

  t.test('the signal of a run that succeeds in time does not abort', async t => {
    const database = scripted(({ resolve }) => resolve(undefined))
    const { ready } = await checked(t, { database: database.check })
    const time = virtualTime(t)
    t.equal((await ready()).status, 200)
    await time.pass(10_000)
    t.equal(database.runs[0]!.signal.aborted, false)
  })

  t.test('a next run that throws counts as ended', async t => {
    const database = scripted(({ resolve }) => {
      if (database.runs.length === 2) throw new Error('no connection')
      if (database.runs.length === 3) resolve(undefined)
    })
    const { ready } = await checked(t, { database: database.check })
    const time = virtualTime(t)
    await time.until(ready())
    t.equal((await ready()).status, 503)
    await time.pass(501)
    t.equal((await ready()).status, 200)
    t.equal(database.runs.length, 3)
  })

  t.test('two runs that never settle count for some time, and a probe is answered at once meanwhile', async t => {
    const database = scripted()
    const { ready } = await checked(t, { database: database.check })
    const time = virtualTime(t)
    // The runs are abandoned after 2, 4 and 6 s. The second run counts until 7 s.
    for (let i = 0; i < 3; i++) await time.until(ready())
    t.strictSame([database.runs.length, time.now()], [3, 6_001])
    await time.pass(501)
    t.strictSame(await ready(), { status: 503, body: { status: 'unavailable', failed: ['database'] } })
    t.strictSame([database.runs.length, time.now()], [3, 6_502])
    await time.pass(501)
    const next = ready()
    await settled()
    t.equal(database.runs.length, 4)
    database.runs[3]!.resolve(undefined)
    t.equal((await next).status, 200)
  })

  for (const outage of [500, 3_000, 8_000, 60_000, 1_800_000]) {
    t.test(`readiness returns in time after ${outage} ms of runs that never settle`, async t => {
      let works = false
      const database = scripted(({ resolve }) => { if (works) resolve(undefined) })
      const { ready, log } = await checked(t, { database: database.check })
      const time = virtualTime(t)
      const probes = probeEvery(time, ready, 500)
      await probes.during(outage)
      const { length } = database.runs
      t.ok(length <= 9 + 4 * outage / 60_000, `${length} runs`)
      works = true
      await probes.during(21_000)
      const took = probes.firstReady() - outage
      t.ok(took <= Math.min(18_000, 3_000 + outage / 2), `${took} ms`)
      t.equal(log.length, 1)
    })
  }

  t.test('runs of one outage do not count in the next', async t => {
    let works = false
    const database = scripted(({ resolve }) => { if (works) resolve(undefined) })
    const { ready } = await checked(t, { database: database.check })
    const time = virtualTime(t)
    await probeEvery(time, ready, 500).during(300_000)
    works = true
    await probeEvery(time, ready, 500).during(40_000)
    works = false
    await probeEvery(time, ready, 500).during(3_000)
    works = true
    const probes = probeEvery(time, ready, 500)
    await probes.during(10_000)
    t.ok(probes.firstReady() <= 4_500, `${probes.firstReady()} ms`)
  })
})

t.test('a slow check within its timeout is healthy, and has one run at a time', async t => {
  const database = scripted(({ resolve }) => { setTimeout(resolve, 1_900) })
  const { ready } = await checked(t, { database: database.check })
  const time = virtualTime(t)
  const probes = probeEvery(time, ready, 100)
  await probes.during(20_000)
  await time.pass(2_000)
  t.strictSame(new Set(probes.answers.map(({ status }) => status)), new Set([200]))
  t.equal(probes.answers.length, 200)
  t.equal(database.mostPending(), 1)
  t.ok(Math.max(...probes.answers.map(({ took }) => took)) <= 1_900)
})

t.test('a check may take longer than the interval of the probes, which then wait for the same run', async t => {
  const database = scripted()
  const { ready } = await checked(t, { database: { timeout: 5_000, check: database.check } })
  const time = virtualTime(t)
  const probes = probeEvery(time, ready, 1_000)
  await probes.during(4_999)
  t.strictSame([database.runs.length, probes.answers.length], [1, 0])
  await time.pass(1)
  t.strictSame(probes.answers, [5_000, 4_000, 3_000, 2_000, 1_000].map(took => ({ at: 5_000, took, status: 503 })))
})

t.test('a check without a timeout has two seconds', async t => {
  const { ready } = await checked(t, { stuck: () => new Promise(() => {}) })
  const time = virtualTime(t)
  const began = time.now()
  t.equal((await time.until(ready())).status, 503)
  t.equal(time.now() - began, 2_000)
})

t.test('results are cached for half a second, and a check that fails again is logged again', async t => {
  let works = true
  let asked = 0
  const { ready, log } = await checked(t, { database: () => { asked++; return works } })
  const status = async (): Promise<number> => (await ready()).status
  const time = virtualTime(t)
  t.equal(await status(), 200)
  works = false
  time.advance(500)
  t.equal(await status(), 200)
  t.equal(asked, 1)
  time.advance(1)
  t.equal(await status(), 503)
  time.advance(501)
  t.equal(await status(), 503)
  t.strictSame([asked, log.length], [3, 1], 'logged once while the check keeps failing')
  works = true
  time.advance(501)
  t.equal(await status(), 200)
  works = false
  time.advance(501)
  t.equal(await status(), 503)
  t.strictSame([asked, log.length], [5, 2])
})

t.test('a successful check does not make a service ready that began to stop meanwhile', async t => {
  const answer = createDeferred<void>()
  const begun = createDeferred<void>()
  const { app } = await serve(t, { options: { delay: 300, probes: { checks: { slow: () => { begun.resolve(); return answer.promise } } } } })
  const asked = fetchOnce(app, get('/health/ready'))
  await begun.promise
  void app.shutdown.start()
  answer.resolve()
  const { status, body } = await asked
  t.strictSame([status, JSON.parse(body)], [503, { status: 'unavailable' }])
})

t.test('a service that has begun to stop runs no checks', async t => {
  let asked = 0
  const { app } = await serve(t, { options: { delay: 300, probes: { checks: { database: () => { asked++ } } } } })
  void app.shutdown.start()
  t.equal((await fetchOnce(app, get('/health/ready'))).status, 503)
  t.equal(asked, 0)
})

t.test('beside @fastify/under-pressure', async t => {
  t.test('a service under pressure is not ready, and alive, because a restart would not help', async t => {
    const { app } = await serve(t, {
      options: { probes: true },
      routes: async app => {
        // The heap in use always exceeds this limit.
        await app.register(underPressure, { maxHeapUsedBytes: 1, sampleInterval: 10, exposeStatusRoute: true })
        app.get('/', async () => 'ok')
      }
    })
    while (!app.isUnderPressure()) await new Promise(resolve => { setImmediate(resolve) })
    t.equal((await fetchOnce(app, get('/'))).status, 503)
    t.strictSame(await probe(app), { live: 200, ready: 503, startup: 200 })
  })

  t.test('the shutdown changes the probes as it does without @fastify/under-pressure', async t => {
    const { app, release, report } = await serveHeld(t, {
      options: { probes: true },
      routes: async app => {
        await app.register(underPressure, { maxEventLoopDelay: 60_000, healthCheck: async () => true, healthCheckInterval: 10_000, exposeStatusRoute: true })
        app.get('/', async () => 'ok')
      }
    })
    t.strictSame(await probe(app), { live: 200, ready: 200, startup: 200 })
    t.equal((await fetchOnce(app, get('/status'))).status, 200)
    void app.close()
    await entered(app, 'draining')
    t.strictSame(await probe(app), { live: 200, ready: 503, startup: 200 })
    const { status, headers, body } = await fetchOnce(app, get('/'))
    t.strictSame([status, headers['retry-after'], JSON.parse(body).code], [503, '10', 'FST_ERR_SHUTDOWN_DRAINING'])
    release()
    t.equal((await report).outcome, 'clean')
  })
})
