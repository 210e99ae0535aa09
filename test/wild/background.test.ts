/**
 * Work behind the requests: croner, and the destinations of pino that write from another thread or later. Each case is a
 * process of its own.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { run, translate, type Child } from '../helpers/children'

const directory = translate(t.testdir(), ['lib'])
let files = 0

/**
 * Runs a script with an app that listens. `options` and `before` may be set by `code`; the other names are there for it.
 */
async function start (t: Test, code: string): Promise<Child & { readonly log: () => string }> {
  const file = join(directory, `service-${++files}.js`)
  const log = join(directory, `service-${files}.log`)
  writeFileSync(file, `
    const { writeSync } = require('node:fs')
    const say = line => writeSync(1, line + '\\n')
    const sleep = ms => new Promise(resolve => { setTimeout(resolve, ms) })
    const logFile = ${JSON.stringify(log)}
    let options = {}
    let loggerInstance
    let registered = app => {}
    let earlier = app => {}
    ${code}
    const app = require('fastify')({ loggerInstance })
    earlier(app)
    app.register(require(${JSON.stringify(join(directory, 'lib/index.js'))}), {
      onReport: ({ outcome, exitCode, errors }) => say('report ' + outcome + ' ' + exitCode + ' ' + errors.map(error => error.message).join('; ')),
      ...options
    })
    registered(app)
    process.on('exit', code => say('exit ' + code))
    app.listen({ port: 0, host: '127.0.0.1' }).then(() => say('ready'))
  `)
  const child = run(t, { args: [file], cwd: directory })
  await child.said('ready')
  return { ...child, log: () => existsSync(log) ? readFileSync(log, 'utf8') : '' }
}

void t.test('croner: a tick while cleaning that calls task() changes neither the outcome nor the exit code', { jobs: 2 }, async t => {
  const ticks: Record<string, string> = {
    'returns the promise': "() => { say('tick ' + app.shutdownState.phase); return work() }",
    'awaits the promise': "async () => { say('tick ' + app.shutdownState.phase); await work() }",
    'forgets the promise': "() => { say('tick ' + app.shutdownState.phase); work() }",
    'adds to the promise': "() => { say('tick ' + app.shutdownState.phase); work().then(() => say('done')) }"
  }
  for (const [name, tick] of Object.entries(ticks)) {
    void t.test(name, async t => {
      const child = await start(t, `
        options = { resources: { database: { close: () => sleep(1500) } } }
        const { Cron } = require('croner')
        const work = () => app.shutdown.task('tick', () => sleep(20))
        registered = app => app.addHook('onReady', async () => { new Cron('* * * * * *', ${tick}) })`)
      await child.said('tick running')
      child.kill('SIGTERM')
      const { code, stderr } = await child.ended
      t.strictSame([code, stderr], [0, ''])
      t.ok(child.count('tick cleaning') >= 1, child.lines.join(' | '))
      t.strictSame(child.lines.slice(-2), ['report clean 0 ', 'exit 0'])
    })
  }
})

void t.test('an interval whose tasks come too late is no crash, and another rejection is one', async t => {
  for (const [error, outcome] of [['', 'report clean 0 '], ["Promise.reject(new Error('real'));", 'report failed 1 Uncaught error: real']] as const) {
    const child = await start(t, `
      options = { resources: { database: { close: () => sleep(300) } } }
      setInterval(async () => { await app.shutdown.task('tick', async () => {}) }, 20)
      setInterval(() => { app.shutdown.waitUntil(sleep(1), { name: 'tock' }) }, 20)
      registered = app => app.addHook('onClose', async () => { ${error} await sleep(100) })`)
    child.kill('SIGTERM')
    t.equal((await child.ended).code, error === '' ? 0 : 1)
    t.ok(child.lines.includes(outcome), child.lines.join(' | '))
  }
})

void t.test('pino', { jobs: 2 }, async t => {
  const destinations: Record<string, string> = {
    'a transport in a worker thread': "require('pino')(require('pino').transport({ target: 'pino/file', options: { destination: logFile } }))",
    'several transports': "require('pino')(require('pino').transport({ targets: [{ target: 'pino/file', options: { destination: logFile } }, { target: 'pino/file', options: { destination: logFile + '2' } }] }))",
    'an asynchronous destination': "require('pino')(require('pino').destination({ dest: logFile, sync: false }))",
    'an asynchronous destination with a buffer': "require('pino')(require('pino').destination({ dest: logFile, sync: false, minLength: 16000 }))",
    // Unlike pino.destination(), it has no 'exit' listener that writes its buffer.
    'sonic-boom with a buffer': "require('pino')(new (require('sonic-boom'))({ dest: logFile, sync: false, minLength: 16000 }))"
  }
  for (const [name, destination] of Object.entries(destinations)) {
    for (const how of ['a signal', 'start()']) {
      void t.test(`${name}: after ${how}, a line of an onClose hook that was registered before the plugin is on disk`, async t => {
        const child = await start(t, `
          loggerInstance = ${destination}
          earlier = app => app.addHook('onClose', async () => { await sleep(50); app.log.info('the last line') })
          if (${how === 'start()'}) registered = app => app.addHook('onListen', async () => { setTimeout(async () => { await app.shutdown.start(); app.log.info('after start') }, 50) })`)
        if (how === 'a signal') child.kill('SIGTERM')
        const { code, stderr } = await child.ended
        t.strictSame([code, stderr], [0, ''])
        t.strictSame(child.lines.slice(-2), ['report clean 0 ', 'exit 0'])
        t.match(child.log(), /"msg":"the last line"/)
        t.match(child.log(), /"msg":"shutdown: clean in /)
        if (how === 'start()') t.match(child.log(), /"msg":"after start"/)
      })
    }
  }

  void t.test('the destination of the log may be a resource: the report is logged after it has closed', async t => {
    const streams = {
      'a destination': ['pino.destination({ dest: logFile, sync: false, minLength: 16000 })', 'stream'],
      'a transport': ["pino.transport({ target: 'pino/file', options: { destination: logFile } })", 'stream'],
      'one of several destinations': ['pino.destination({ dest: logFile, sync: false })', '{}, pino.multistream([{ stream }])']
    }
    for (const [name, [create, used]] of Object.entries(streams)) {
      const child = await start(t, `
        const pino = require('pino')
        const stream = ${create}
        loggerInstance = pino(${used})
        options = { resources: { log: { client: stream } } }`)
      child.kill('SIGTERM')
      const { code, stderr } = await child.ended
      t.strictSame([code, stderr], [0, ''], name)
      t.match(child.log(), /"msg":"shutdown: clean in /, name)
    }
  })

  void t.test("thread-stream with a stuck worker throws in its 'exit' listener after 10 s: the process ends with exit code 1", async t => {
    const worker = join(directory, 'stuck-worker.js')
    writeFileSync(worker, `
      const { Writable } = require('node:stream')
      module.exports = async () => new Writable({ write () { Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0) } })
    `)
    const child = await start(t, `loggerInstance = require('pino')(require('pino').transport({ target: ${JSON.stringify(worker)} }))`)
    child.kill('SIGTERM')
    const { code, stderr } = await child.ended
    t.equal(code, 1)
    t.match(stderr, /^fastify-shutdown: an 'exit' listener threw: Error: _flushSync took too long/)
    t.equal(child.count('report clean 0'), 1)
  })
})
