import { readFileSync, writeFileSync } from 'node:fs'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import { pauseBeforeSecondSignal, report, serve, translate } from '../helpers/children'

const directory = translate(t.testdir())
const script = join(directory, 'test/process/fixtures/service.js')
const small = { requests: 600, streams: 300, tasks: 300, resources: 300, total: 1_000 }

t.test('one signal', async t => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    t.test(`${signal} completes a slow response, closes the resources and exits with 0`, async t => {
      const service = await serve(t, directory, {})
      const { answer } = await service.slow(500)
      service.kill(signal)
      const { status, whole, body } = await answer
      t.strictSame([status, whole, body.length], [200, true, 100_000])
      const { code, stderr } = await service.ended
      t.equal(code, 0)
      t.equal(stderr, '')
      t.strictSame(await report(service), { reason: { kind: 'signal', detail: signal }, outcome: 'clean', exitCode: 0 })
      t.strictSame([service.count('hook'), service.count('resource closes')], [1, 1])
    })
  }

  t.test('an idle service exits at once', async t => {
    const service = await serve(t, directory, {})
    const began = performance.now()
    service.kill('SIGTERM')
    const { code, at } = await service.ended
    t.equal(code, 0)
    t.ok(at - began < 5_000, `${at - began} ms`)
  })

  t.test('a signal that is not in `signals` ends the process as usual', async t => {
    const service = await serve(t, directory, { options: { signals: ['SIGUSR2'] } })
    service.kill('SIGTERM')
    t.equal((await service.ended).signal, 'SIGTERM')
    const other = await serve(t, directory, { options: { signals: ['SIGUSR2'] } })
    other.kill('SIGUSR2')
    t.equal((await other.ended).code, 0)
  })

  t.test('each event has one listener, before and during a shutdown: close-with-grace adds none', async t => {
    const service = await serve(t, directory, { options: { delay: 1_500 } })
    const before = JSON.parse((await service.get('/listeners')).body)
    t.strictSame(before, { SIGTERM: 1, SIGINT: 1, uncaughtException: 1, unhandledRejection: 1 })
    service.kill('SIGTERM')
    await service.said('lame-duck')
    t.strictSame(JSON.parse((await service.get('/listeners')).body), before)
    t.equal((await service.ended).code, 0)
  })

  t.test('the longest timeout of a timer is not exceeded by the backstop', async t => {
    const service = await serve(t, directory, { options: { timeouts: { total: 2 ** 31 - 1 } } })
    const { answer } = await service.slow(300)
    service.kill('SIGTERM')
    t.equal((await answer).whole, true)
    t.equal((await service.ended).code, 0)
  })

  t.test('a signal joins a close() that has begun, and the process exits after it', async t => {
    const service = await serve(t, directory, {})
    const { answer } = await service.slow(500)
    await service.get('/close')
    service.kill('SIGTERM')
    t.equal((await answer).whole, true)
    t.equal((await service.ended).code, 0)
    t.equal((await report(service)).reason.kind, 'close')
    t.equal(service.count('hook'), 1)
  })
})

t.test('a second signal', async t => {
  t.test('a duplicate within 100 ms is ignored', async t => {
    const service = await serve(t, directory, { options: { delay: 0 } })
    const { answer } = await service.slow(700)
    service.kill('SIGINT')
    await service.said('draining')
    service.kill('SIGINT')
    service.kill('SIGTERM')
    t.equal((await answer).whole, true)
    t.equal((await service.ended).code, 0)
  })

  t.test('a deliberate second signal exits at once with 1, and the last log line names what is pending', async t => {
    const file = join(t.testdir(), 'log')
    const service = await serve(t, directory, { log: { file, how: 'sync' } })
    const { answer } = await service.slow(20_000)
    service.kill('SIGTERM')
    await pauseBeforeSecondSignal(service)
    const began = performance.now()
    service.kill('SIGTERM')
    const { code, at } = await service.ended
    t.equal(code, 1)
    t.ok(at - began < 5_000, `${at - began} ms, less than the 20 s of the request`)
    t.equal((await answer).whole, false)
    t.equal(service.count('report'), 0)
    const last = JSON.parse(readFileSync(file, 'utf8').trim().split('\n').at(-1)!)
    t.equal(last.msg, 'shutdown: second SIGTERM, the process exits now')
    t.match(last.shutdown.pending, [/^GET \/slow/])
  })

  t.test('the first signal after a crash, or after start(), is not a second one', async t => {
    for (const path of ['/throw', '/start']) {
      const service = await serve(t, directory, {})
      const { answer } = await service.slow(1_500)
      await service.get(path)
      await pauseBeforeSecondSignal(service)
      service.kill('SIGTERM')
      t.equal((await answer).whole, true, path)
      t.equal((await service.ended).code, path === '/throw' ? 1 : 0)
    }
  })

  t.test('100 signals in 100 ms start one shutdown', async t => {
    const service = await serve(t, directory, {})
    const { answer } = await service.slow(700)
    for (let sent = 0; sent < 100; sent++) {
      service.kill(sent % 2 === 0 ? 'SIGTERM' : 'SIGINT')
      await pause(1)
    }
    t.equal((await answer).whole, true)
    t.equal((await service.ended).code, 0)
    t.strictSame([service.count('report'), service.count('hook'), service.count('resource closes')], [1, 1, 1])
  })

  t.test('signals that continue until the exit do not kill an idle service', async t => {
    const service = await serve(t, directory, {})
    while (service.process.exitCode === null && service.process.signalCode === null) {
      service.process.kill('SIGTERM')
      await pause(0)
    }
    t.equal((await service.ended).code, 0)
    t.equal(service.count('report'), 1)
  })

  t.test('a signal that waited while the event loop was blocked is a duplicate', async t => {
    const service = await serve(t, directory, { options: { delay: 0 } })
    void service.get('/block?ms=600')
    await service.said('will block')
    const { answer } = await service.slow(1_000)
    service.kill('SIGTERM')
    await service.said('blocked')
    service.kill('SIGTERM')
    t.equal((await answer).whole, true)
    t.equal(service.count('unblocked'), 1)
  })
})

t.test('a signal during the boot', async t => {
  t.test('closes what has started after the boot, and the server does not listen', async t => {
    const service = await serve(t, directory, { boot: 1_000 }, { until: 'booting' })
    service.kill('SIGTERM')
    const { code, signal } = await service.ended
    t.strictSame([code, signal], [0, null])
    t.strictSame([service.count('hook'), service.count('resource closes'), service.count('port'), service.count('ready')], [1, 1, 0, 0], service.lines.join('\n'))
    t.equal((await report(service)).outcome, 'clean')
  })

  t.test('is not needed for a boot that never ends: the resources close after the budget, and the report is published', async t => {
    const began = performance.now()
    const service = await serve(t, directory, { boot: 'never', options: { timeouts: small } }, { until: 'booting' })
    service.kill('SIGTERM')
    const { code, at } = await service.ended
    t.equal(code, 1)
    t.ok(at - began > small.total && at - began < 15_000, `${at - began} ms`)
    t.equal((await report(service)).outcome, 'failed')
    t.equal(service.count('resource closes'), 1)
  })

  t.test('is not needed: start() ends a boot that never ends in the same time', async t => {
    const service = await serve(t, directory, { boot: 'never', startInBoot: true, options: { timeouts: small, signals: false, exit: true } }, { until: 'booting' })
    const began = performance.now()
    const { code, at } = await service.ended
    t.equal(code, 1)
    t.ok(at - began > small.total - 500 && at - began < 15_000, `${at - began} ms`)
  })
})

t.test('an event loop that was blocked longer than the budget leads to exit code 1 right after', async t => {
  const service = await serve(t, directory, { options: { timeouts: small } })
  void service.get('/block?ms=3500')
  await service.said('will block')
  service.kill('SIGTERM')
  await service.said('unblocked')
  const unblocked = performance.now()
  const { code, at } = await service.ended
  t.equal(code, 1)
  t.ok(at - unblocked < small.total, `${at - unblocked} ms, less than a second budget`)
})

t.test('a signal from outside', async t => {
  t.test('reaches a service that is PID 1 of a container', needs('unshare', ['--pid', '--fork', '--mount-proc', 'true'], 'cannot create a PID namespace here: run as root, or allow user namespaces'), async t => {
    const service = await serve(t, directory, {}, { program: 'unshare', args: ['--pid', '--fork', '--kill-child', '--mount-proc', process.execPath, script] })
    t.equal(await service.said('pid'), '1')
    const { answer } = await service.slow(500)
    const { pid } = service.process
    const inner = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
    process.kill(Number(inner), 'SIGTERM')
    t.equal((await answer).whole, true)
    t.equal((await service.ended).code, 0)
    t.equal((await report(service)).outcome, 'clean')
  })

  const npm = needs('npm', ['--version'], 'is missing: install Node with it')
  writeFileSync(join(directory, 'package.json'), JSON.stringify({ name: 'service', scripts: { start: `node ${script}`, exec: `exec node ${script}` } }))
  const ways = [
    { name: 'npm start', program: 'npm', args: ['start'], options: npm },
    // Without a shell in between, the service receives the signal from the terminal and a duplicate from npm.
    { name: 'npm and exec', program: 'npm', args: ['run', 'exec'], options: npm },
    { name: 'a shell that stays', program: 'sh', args: ['-c', `node ${script}; exit $?`], options: {} }
  ]
  for (const { name, program, args, options } of ways) {
    t.test(`Ctrl-C through ${name} leads to a clean exit`, options, async t => {
      const service = await serve(t, directory, {}, { program, args, group: true })
      const { answer } = await service.slow(500)
      service.kill('SIGINT')
      t.equal((await answer).whole, true)
      await service.ended
      t.equal(await service.said('exit'), '0', service.lines.join('\n'))
      t.strictSame(await report(service), { reason: { kind: 'signal', detail: 'SIGINT' }, outcome: 'clean', exitCode: 0 })
    })

    t.test(`Ctrl-C twice through ${name} exits at once with 1`, options, async t => {
      const service = await serve(t, directory, {}, { program, args, group: true })
      const { answer } = await service.slow(20_000)
      service.kill('SIGINT')
      await pauseBeforeSecondSignal(service)
      const began = performance.now()
      service.kill('SIGINT')
      t.equal(await service.said('exit'), '1', service.lines.join('\n'))
      const took = performance.now() - began
      t.ok(took < 5_000, `${took} ms, less than the 20 s of the request`)
      t.equal((await answer).whole, false)
      await service.ended
      t.equal(service.count('report'), 0)
    })
  }

  t.test('reaches a service that npm started with exec, if npm alone receives SIGTERM', npm, async t => {
    const service = await serve(t, directory, {}, { program: 'npm', args: ['run', 'exec'], group: true })
    const { answer } = await service.slow(500)
    service.process.kill('SIGTERM')
    t.equal((await answer).whole, true)
    await service.ended
    t.equal(await service.said('exit'), '0')
  })
})

/** Skips a test whose program is missing, unless REQUIRE_SERVICES is 1. */
function needs (program: string, args: string[], why: string): { skip?: string } {
  const works = spawnSync(program, args).status === 0
  return works || process.env.REQUIRE_SERVICES === '1' ? {} : { skip: `${program} ${why}` }
}
