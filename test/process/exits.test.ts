import { backstop } from '../../lib/process/backstop'
import { cpSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import { pauseBeforeSecondSignal, report, serve, translate } from '../helpers/children'

const directory = translate(t.testdir())
const small = { requests: 600, streams: 300, tasks: 300, resources: 300, total: 1_500 }

t.test('an uncaught error', async t => {
  for (const [path, message] of [['/throw', 'an uncaught exception'], ['/reject', 'an unhandled rejection']] as const) {
    t.test(`by ${path}: drains, and exits with 1`, async t => {
      const file = join(t.testdir(), 'log')
      const service = await serve(t, directory, { log: { file, how: 'sync' } })
      const { answer } = await service.slow(500)
      await service.get(path)
      t.equal((await answer).whole, true)
      t.equal((await service.ended).code, 1)
      t.strictSame(await report(service), { reason: { kind: 'error', detail: message }, outcome: 'failed', exitCode: 1 })
      t.strictSame([service.count('hook'), service.count('resource closes')], [1, 1])
      t.match(readFileSync(file, 'utf8'), message)
    })

    t.test(`by ${path} during a shutdown: requests in flight complete, resources close, and the exit code is 1`, async t => {
      const service = await serve(t, directory, { options: { delay: 1_500 } })
      const { answer } = await service.slow(2_500)
      service.kill('SIGTERM')
      // A request may arrive before the signal.
      await service.said('lame-duck')
      t.equal((await service.get(path)).status, 200)
      t.equal((await service.get(path)).status, 200)
      const { status, whole } = await answer
      t.strictSame([status, whole], [200, true])
      t.equal((await service.ended).code, 1)
      t.strictSame(await report(service), { reason: { kind: 'signal', detail: 'SIGTERM' }, outcome: 'failed', exitCode: 1 })
      t.strictSame([service.count('hook'), service.count('resource closes')], [1, 1])
    })
  }

  t.test('between the report and the exit sets the exit code to 1', async t => {
    const service = await serve(t, directory, {})
    await service.get('/late-crash')
    service.kill('SIGTERM')
    t.equal((await service.ended).code, 1)
    t.equal((await report(service)).exitCode, 0)
  })

  t.test('during a close() ends the process after everything has closed', async t => {
    const service = await serve(t, directory, {})
    const { answer } = await service.slow(500)
    void service.get('/throw')
    await service.get('/close')
    t.equal((await answer).whole, true)
    t.equal((await service.ended).code, 1)
    t.equal(service.count('hook'), 1)
  })

  t.test('ends the process as usual with uncaughtErrors: false', async t => {
    const service = await serve(t, directory, { options: { uncaughtErrors: false } })
    void service.get('/throw')
    const { code, stderr } = await service.ended
    t.equal(code, 1)
    t.match(stderr, 'an uncaught exception')
    t.equal(service.count('report'), 0)
  })

  t.test('with exit: false closes the app, and the process ends by itself with 1', async t => {
    const service = await serve(t, directory, { options: { exit: false } })
    void service.get('/throw')
    t.equal((await service.ended).code, 1)
    t.equal(service.count('hook'), 1)
  })
})

t.test('the exit code', async t => {
  t.test('is 1 if a request was cut', async t => {
    const service = await serve(t, directory, { options: { timeouts: small } })
    const { answer } = await service.slow(20_000)
    service.kill('SIGTERM')
    t.equal((await answer).status, 503)
    t.equal((await service.ended).code, 1)
    t.equal((await report(service)).outcome, 'forced')
    t.equal(service.count('resource closes'), 1)
  })

  t.test('is 1 if a resource failed', async t => {
    const service = await serve(t, directory, { resource: 'fails' })
    service.kill('SIGTERM')
    const { code, stderr } = await service.ended
    t.strictSame([code, stderr], [1, ''])
    t.equal((await report(service)).outcome, 'failed')
  })

  t.test('is 1 if the process was stopped for longer than its time, and the resources close when it continues', async t => {
    const service = await serve(t, directory, { options: { timeouts: { ...small, requests: 900 } } })
    const { answer } = await service.slow(60_000)
    service.kill('SIGTERM')
    await service.said('draining')
    service.kill('SIGSTOP')
    // The time is the thing under test: more than the total and the backstop.
    await new Promise(resolve => { setTimeout(resolve, small.total + backstop + 500) })
    service.kill('SIGCONT')
    t.equal((await service.ended).code, 1)
    t.match(await answer, { status: 503 })
    t.strictSame([service.count('resource closes'), service.count('hook')], [1, 1])
    t.match(await report(service), { outcome: 'forced', exitCode: 1 })
  })

  t.test('is 0 if the process was stopped in a hook for longer than its time: hooks and resources have their time', async t => {
    const timeouts = { ...small, resources: 700 }
    const service = await serve(t, directory, { hook: 'slow', options: { timeouts } })
    service.kill('SIGTERM')
    await service.said('hook')
    service.kill('SIGSTOP')
    // The time is the thing under test: more than the total and the backstop.
    await new Promise(resolve => { setTimeout(resolve, small.total + backstop + 500) })
    service.kill('SIGCONT')
    t.equal((await service.ended).code, 0)
    t.equal(service.count('resource closes'), 1)
    t.match(await report(service), { outcome: 'clean', exitCode: 0 })
  })

  t.test('is 1 if a resource or an onClose hook was abandoned, before the backstop', async t => {
    for (const hanging of [{ resource: 'hangs' }, { hook: 'hangs' }] as const) {
      const service = await serve(t, directory, { ...hanging, options: { timeouts: small } })
      const began = performance.now()
      service.kill('SIGTERM')
      const { code, at } = await service.ended
      t.equal(code, 1)
      t.ok(at - began < small.total + 1_500, `${at - began} ms, less than the backstop`)
      t.equal((await report(service)).outcome, 'failed')
    }
  })

  t.test('stays the one that the user has set after a clean shutdown', async t => {
    const service = await serve(t, directory, {})
    await service.get('/exit-code?code=3')
    service.kill('SIGTERM')
    t.equal((await service.ended).code, 3)
  })
})

t.test('the end of the process', async t => {
  t.test('comes by itself after a close(): the plugin neither ends it nor keeps it alive', async t => {
    const service = await serve(t, directory, {})
    await service.get('/close')
    const { code } = await service.ended
    t.equal(code, 0)
    t.ok(service.lines.indexOf('closed') < service.lines.indexOf('exit 0'))
    t.equal(service.count('closed'), 1)
  })

  t.test('comes after start() has resolved in every instance', async t => {
    const service = await serve(t, directory, { second: { signals: false } })
    await service.get('/start')
    await service.said('started 0')
    // The other instance still serves.
    const second = Number(service.lines.find(line => line.startsWith('second port '))?.slice(12))
    t.equal((await service.get('/listeners', second)).status, 200)
    await service.get('/start', second)
    t.equal((await service.ended).code, 0)
    t.strictSame([service.count('started 0'), service.count('second started 0')], [1, 1])
  })

  t.test('comes by itself with exit: false, because no listener is left', async t => {
    const service = await serve(t, directory, { options: { exit: false } })
    const { answer } = await service.slow(500)
    service.kill('SIGTERM')
    t.equal((await answer).whole, true)
    t.equal((await service.ended).code, 0)
    t.equal((await report(service)).outcome, 'clean')
  })
})

t.test('two instances in one process', async t => {
  const before = (lines: readonly string[], first: string, then: string): boolean =>
    lines.findIndex(line => line.startsWith(first)) < lines.findIndex(line => line.startsWith(then))

  t.test('both close before the exit, if one is slow', async t => {
    const service = await serve(t, directory, { second: {} })
    const { answer } = await service.slow(700, 'second')
    service.kill('SIGTERM')
    t.equal((await answer).whole, true)
    t.equal((await service.ended).code, 0)
    t.strictSame([service.count('hook'), service.count('second hook')], [1, 1])
    t.ok(before(service.lines, 'report', 'second report'))
  })

  t.test('the exit code is 1 if a request of either one was cut', async t => {
    const service = await serve(t, directory, { second: {}, options: { timeouts: { ...small, requests: 200 } } })
    const { answer } = await service.slow(20_000)
    const other = await service.slow(900, 'second')
    service.kill('SIGTERM')
    t.equal((await answer).status, 503)
    t.equal((await other.answer).whole, true)
    t.equal((await service.ended).code, 1)
    t.equal((await report(service, 'second ')).outcome, 'clean')
  })

  t.test('an instance with exit: false or signals: false closes before the exit too', async t => {
    for (const options of [{ exit: false }, { signals: false }] as const) {
      const service = await serve(t, directory, { second: options })
      const { answer } = await service.slow(700, 'second')
      service.kill('SIGTERM')
      t.equal((await answer).whole, true, JSON.stringify(options))
      t.equal((await service.ended).code, 0)
      t.ok(before(service.lines, 'report', 'second report'))
    }
  })

  t.test('with exit: false, an instance without signals serves on after a signal, and keeps its own listeners', async t => {
    const service = await serve(t, directory, { options: { exit: false }, second: { signals: false, uncaughtErrors: true } })
    const port = Number(await service.said('second port'))
    service.kill('SIGTERM')
    await service.said('report')
    const listeners = async (): Promise<Record<string, number>> => JSON.parse((await service.get('/listeners', port)).body)
    while ((await listeners()).SIGTERM !== undefined) await pause(10)
    t.strictSame(await listeners(), { uncaughtException: 1, unhandledRejection: 1 })
    void service.get('/throw', port)
    t.equal((await service.ended).code, 1)
    t.equal((await report(service, 'second ')).reason.kind, 'error')
  })

  t.test('an uncaught error closes the instance that a signal did not close', async t => {
    const service = await serve(t, directory, { options: { exit: false }, second: { signals: false, uncaughtErrors: true } })
    const { answer } = await service.slow(700)
    service.kill('SIGTERM')
    await service.said('draining')
    void service.get('/throw', Number(await service.said('second port')))
    t.equal((await answer).whole, true)
    t.equal((await service.ended).code, 1)
    t.strictSame([(await report(service)).reason.kind, (await report(service, 'second ')).reason.kind], ['signal', 'error'])
  })

  t.test('each signal closes both, if each instance has its own', async t => {
    const service = await serve(t, directory, { options: { signals: ['SIGTERM'] }, second: { signals: ['SIGUSR2'] } })
    const { answer } = await service.slow(500)
    service.kill('SIGUSR2')
    t.equal((await answer).whole, true)
    t.equal((await service.ended).code, 0)
    t.strictSame([service.count('report'), service.count('second report')], [1, 1])
  })

  t.test('share their listeners, also if they come from two copies of the package', async t => {
    const copy = join(directory, 'copy/lib')
    cpSync(join(directory, 'lib'), copy, { recursive: true })
    const service = await serve(t, directory, { second: {}, copy: join(copy, 'index.js') })
    t.strictSame(JSON.parse((await service.get('/listeners')).body), { SIGTERM: 1, SIGINT: 1, uncaughtException: 1, unhandledRejection: 1 })
    const { answer } = await service.slow(700, 'second')
    service.kill('SIGTERM')
    t.equal((await answer).whole, true)
    t.equal((await service.ended).code, 0)
    t.strictSame([service.count('hook'), service.count('second hook')], [1, 1])
  })

  t.test('an instance that is built during the shutdown of the other one closes too', async t => {
    const service = await serve(t, directory, { secondWhileDraining: true, second: {}, options: { timeouts: small } }, { until: 'port' })
    const { answer } = await service.slow(500)
    service.kill('SIGTERM')
    t.equal((await answer).whole, true)
    t.equal((await service.ended).code, 0)
    t.strictSame([service.count('second report'), service.count('second port')], [1, 0])
  })
})

t.test('the last line of an asynchronous log is on disk after the exit', async t => {
  for (const how of ['async', 'transport'] as const) {
    for (const forced of [false, true]) {
      t.test(`${how}, ${forced ? 'forced' : 'clean'}`, async t => {
        const file = join(t.testdir(), 'log')
        const service = await serve(t, directory, { log: { file, how } })
        const { answer } = await service.slow(forced ? 20_000 : 100)
        service.kill('SIGTERM')
        if (forced) {
          await pauseBeforeSecondSignal(service)
          service.kill('SIGTERM')
        }
        t.equal((await answer).status, forced ? null : 200)
        t.equal((await service.ended).code, forced ? 1 : 0)
        const last = JSON.parse(readFileSync(file, 'utf8').trim().split('\n').at(-1)!)
        t.match(last.msg, forced ? /second SIGTERM/ : /^shutdown: clean in/)
      })
    }
  }
})
