/** `shutDown` and `stuck` of the test kit. */
import { spawnSync } from 'node:child_process'
import t, { type Test } from 'tap'
import gracefulShutdown = require('../../lib/index')
import { shutDown, stuck } from '../../lib/testing'
import { Fastify } from '../helpers/fastify'
import { run, translate, type Child } from '../helpers/children'
import { build, serve } from '../helpers/serve'

t.test('it resolves to the report, with its reason', async t => {
  const { app } = await serve(t)
  const report = await shutDown(app, 'a deploy')
  t.match(report, { outcome: 'clean', reason: { kind: 'start', detail: 'a deploy' } })
  t.equal(app.server.listening, false)
  t.equal(await shutDown(app), report, 'a second call joins')
})

t.test('the default reason is test', async t => {
  const { app } = await build(t)
  t.equal((await shutDown(app)).reason.detail, 'test')
})

t.test('an app that is closed before it is ready has a report, too', async t => {
  const { app, report } = await build(t)
  await app.close()
  t.equal(await shutDown(app), await report)
})

t.test('register() need not be awaited', async t => {
  const app = Fastify()
  app.register(gracefulShutdown, { signals: false, resources: { db: { close () {} } } })
  t.match(await shutDown(app), { outcome: 'clean', resources: [{ name: 'db' }] })
})

t.test('it resolves to the report of a close that is over', async t => {
  const { app, report } = await serve(t)
  await app.close()
  t.equal(await shutDown(app), await report)
})

t.test('it resolves to the report of a shutdown that failed', async t => {
  const { app } = await build(t, { options: { resources: { db: { close () { throw new Error('no') } } } } })
  t.match(await shutDown(app), { outcome: 'failed', exitCode: 1 })
  t.equal(process.exitCode, undefined)
})

t.test('an app without the plugin is a clear error', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await t.rejects(shutDown(app), { code: 'FST_ERR_SHUTDOWN_TEST', message: /register the plugin first/ })
  await app.close()
  await t.rejects(shutDown(app), 'also after it has closed')
})

t.test('an app whose boot fails rejects with the error of the boot', async t => {
  const app = Fastify()
  app.register(async () => { throw new Error('no boot') })
  app.register(gracefulShutdown, { signals: false })
  await t.rejects(shutDown(app), { message: 'no boot' })
})

t.test('stuck() is abandoned at its timeout, and forced if it has a force', async t => {
  const { app } = await build(t, {
    options: { resources: { db: stuck({ timeout: 50 }), redis: stuck({ timeout: 50, dependsOn: ['db'], force () {} }) } }
  })
  t.match(await shutDown(app), {
    outcome: 'failed', resources: [{ name: 'db', outcome: 'abandoned', waitedFor: ['redis'] }, { name: 'redis', outcome: 'forced' }]
  })
})

t.test('in a process outside of a test runner', async t => {
  const directory = translate(t.testdir(), ['lib'])
  /** Runs code that has `build(options)` and the kit. It writes `over` if the process has not been ended before. */
  const runCode = (t: Test, code: string): Child => run(t, {
    cwd: directory,
    args: ['-e', `
      const { writeSync } = require('node:fs')
      const say = line => writeSync(1, line + '\\n')
      const kit = require('./lib/testing')
      async function build (options) {
        const app = require('fastify')()
        await app.register(require('./lib/index'), { delay: 0, ...options })
        await app.listen({ port: 0, host: '127.0.0.1' })
        return app
      }
      const turns = () => new Promise(resolve => setTimeout(resolve, 100))
      ;(async () => { ${code} })()`]
  })

  t.test('it ends neither the process nor changes its exit code, with signals and exit on', async t => {
    const child = runCode(t, `
      const app = await build({ exit: true, resources: { db: { close () { throw new Error('no') } } } })
      const report = await kit.shutDown(app)
      await turns()
      say('over ' + report.exitCode + ' ' + process.exitCode + ' ' + process.listenerCount('SIGTERM'))`)
    t.equal(await child.said('over'), '1 undefined 0')
    t.match(await child.ended, { code: 0, signal: null })
  })

  t.test('start() ends it, so the test above can fail', async t => {
    const child = runCode(t, "await (await build({ exit: true })).shutdown.start(); await turns(); say('over')")
    t.equal((await child.ended).code, 0)
    t.equal(child.count('over'), 0)
  })

  t.test('it joins a shutdown that a signal has begun, and no backstop ends the process later', async t => {
    const child = runCode(t, `
      const app = await build({ exit: true, timeouts: { requests: 50, streams: 50, tasks: 50, resources: 100, total: 300 } })
      process.emit('SIGTERM', 'SIGTERM')
      const report = await kit.shutDown(app)
      await new Promise(resolve => setTimeout(resolve, 3_000))
      say('over ' + report.reason.detail + ' ' + process.exitCode)`)
    t.equal(await child.said('over'), 'SIGTERM undefined')
    t.equal((await child.ended).code, 0)
  })

  t.test('a signal during it does not end the process, and later signals begin the next shutdown', async t => {
    const child = runCode(t, `
      const first = await build({ exit: true, resources: { slow: { close: turns } } })
      const report = kit.shutDown(first)
      process.emit('SIGTERM', 'SIGTERM')
      say('first ' + (await report).reason.kind)
      await turns()
      const second = await build({ exit: true })
      process.emit('SIGTERM', 'SIGTERM')
      await second.shutdown.start()
      await turns()
      say('not reached')`)
    t.equal(await child.said('first'), 'start')
    t.equal((await child.ended).code, 0)
    t.equal(child.count('not reached'), 0)
  })

  t.test('two copies of the package work together', async t => {
    const other = translate(t.testdir(), ['lib'])
    const child = runCode(t, `
      const { shutDown } = require(${JSON.stringify(other)} + '/lib/testing')
      await shutDown(await build({ exit: true }))
      await turns()
      say('over')`)
    await child.said('over')
    t.equal((await child.ended).code, 0)
  })

  t.test('the main entry point does not load the kit, and the kit does not load the plugin', t => {
    const load = (entry: string): string => spawnSync(process.execPath, ['-p', `require('./lib/${entry}'); Object.keys(require.cache).join('\\n')`], { cwd: directory, encoding: 'utf8' }).stdout
    t.notMatch(load('index'), /lib\/testing/)
    const kit = load('testing')
    t.match(kit, /lib\/testing/)
    t.notMatch(kit, /lib\/(plugin|http|lifecycle|process)\b|node_modules\/(fastify|light-my-request)\//)
    t.end()
  })
})
