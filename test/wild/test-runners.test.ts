/** Test files of users under jest, vitest and node:test. The runner decides: we neither exit nor take its errors. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { run, translate, type Child } from '../helpers/children'
import { writeProject } from '../helpers/testing-page'

const directory = translate(t.testdir(), ['lib'])
const { resolve } = createRequire(__filename)
/** Text of all runners, and of the apps that their files test. */
const common = `
  const assert = require('node:assert')
  const { writeSync } = require('node:fs')
  const say = line => writeSync(1, line + '\\n')
  const events = ['SIGTERM', 'SIGINT', 'SIGUSR2', 'uncaughtException', 'unhandledRejection']
  const listeners = () => events.map(event => process.listenerCount(event))
  async function build (options) {
    const app = require('fastify')()
    app.register(require(${JSON.stringify(join(directory, 'lib/index.js'))}), options)
    app.get('/', async () => 'hello')
    await app.listen({ port: 0, host: '127.0.0.1' })
    return app
  }
`

interface Runner {
  readonly file: string
  /** The import of `test`. */
  readonly header: string
  readonly args: (folder: string) => string[]
}

const runners: Record<string, Runner> = {
  jest: {
    file: 'app.test.js',
    header: '',
    args: folder => [join(dirname(resolve('jest/package.json')), 'bin/jest.js'), '--rootDir', folder, '--config', '{"testEnvironment":"node"}', '--no-watchman', '--no-cache', '--testTimeout=60000']
  },
  vitest: {
    file: 'app.test.mjs',
    header: "import { createRequire } from 'node:module'\nimport { test } from 'vitest'\nconst require = createRequire(import.meta.url)\n",
    args: folder => [join(dirname(resolve('vitest/package.json')), 'vitest.mjs'), 'run', '--root', folder, '--testTimeout=60000']
  },
  'node:test': {
    file: 'app.test.js',
    header: "const { test } = require('node:test')\n",
    args: folder => ['--test', join(folder, 'app.test.js')]
  }
}

let projects = 0

/** Runs one test file. */
async function runFile (t: Test, { file, header, args }: Runner, code: string): Promise<Child & { readonly output: string, readonly code: number | null }> {
  const folder = join(directory, `project-${++projects}`)
  mkdirSync(folder)
  writeFileSync(join(folder, 'package.json'), '{}')
  writeFileSync(join(folder, file), `${header}${common}${code}`)
  const child = run(t, { args: args(folder), cwd: folder, env: { CI: 'true', NO_COLOR: '1' } })
  const { code: exitCode, stderr } = await child.ended
  return { ...child, code: exitCode, output: child.lines.join('\n') + stderr }
}

for (const [name, runner] of Object.entries(runners)) {
  void t.test(name, async t => {
    void t.test('later tests run after start(), no listener is added, and the exit code is 0', async t => {
      const { code, output } = await runFile(t, runner, `
        test('first', async () => {
          const before = listeners()
          const app = await build()
          assert.deepStrictEqual(listeners(), before)
          assert.strictEqual((await (await fetch('http://127.0.0.1:' + app.server.address().port)).text()), 'hello')
          const { outcome, exitCode } = await app.shutdown.start()
          assert.deepStrictEqual([outcome, exitCode], ['clean', 0])
        })
        test('second', async () => {
          const app = await build()
          await app.close()
          await new Promise(resolve => setTimeout(resolve, 100))
          say('second is over')
        })`)
      t.equal(code, 0, output)
      t.match(output, /second is over/)
    })

    void t.test('a test that fails while an app is open or closed is exit code 1', async t => {
      const { code, output } = await runFile(t, runner, `
        test('first', async () => {
          const app = await build()
          await app.shutdown.start()
          throw new Error('boom of the test')
        })
        test('second', async () => { say('second is over') })`)
      t.equal(code, 1)
      t.match(output, /boom of the test/)
      t.match(output, /second is over/)
    })

    void t.test('a report that has failed does not fail the run, and its errors keep message and stack', async t => {
      const { code, output } = await runFile(t, runner, `
        test('first', async () => {
          const app = await build({ resources: {
            type: { close: async () => { throw Object.assign(new TypeError('far'), { code: 'E_FAR' }) } },
            range: { close () { throw new RangeError('away') } }
          } })
          const { outcome, exitCode, errors, resources } = await app.shutdown.start()
          assert.deepStrictEqual([outcome, exitCode, errors.length], ['failed', 1, 2])
          assert.match(errors[0].message, /Resource 'type' failed: far$/)
          assert.match(errors[1].message, /Resource 'range' failed: away$/)
          assert.match(errors[0].cause.stack, /^TypeError: far\\n +at .*app\\.test/)
          assert.strictEqual(errors[0].cause.code, 'E_FAR')
          assert.strictEqual(resources[1].error.name, 'RangeError')
        })
        test('an error of a task', async () => {
          const app = await build()
          app.shutdown.on('draining', () => { app.shutdown.task('mail', async () => { throw new SyntaxError('lost') }).catch(() => {}) })
          const { errors } = await app.shutdown.start()
          assert.match(errors[0].message, /^Task 'mail' failed: lost$/)
          assert.match(errors[0].cause.stack, /^SyntaxError: lost\\n +at .*app\\.test/)
          say('second is over')
        })`)
      t.equal(code, 0, output)
      t.match(output, /second is over/)
    })

    void t.test('the test kit: a shutdown with signals and exit on does not end the run, and a failed assertion fails its test', async t => {
      const { code, output } = await runFile(t, runner, `
        const kit = require(${JSON.stringify(join(directory, 'lib/testing'))})
        const stuck = name => ({ signals: ['SIGUSR2'], exit: true, delay: 0, resources: { [name]: kit.stuck({ timeout: 50 }) } })
        test('first', async () => {
          const app = await build({ signals: ['SIGUSR2'], exit: true, delay: 0 })
          const socket = await kit.silentSocket(app)
          const report = await kit.shutDown(app)
          kit.assertClean(report)
          kit.assertNothingLost(report)
          assert.strictEqual(report.sockets.silent, 1)
        })
        test('second', async () => {
          kit.assertClean(await kit.shutDown(await build(stuck('redis'))))
        })
        test('third', async () => {
          kit.assertOrder(await kit.shutDown(await build(stuck('redis'))), ['rediss'])
        })
        test('fourth', async () => {
          await new Promise(resolve => setTimeout(resolve, 100))
          say('fourth is over')
        })`)
      t.equal(code, 1)
      t.match(output, /fourth is over/, output)
      t.match(output, "Expected a clean shutdown, but its outcome is 'failed':")
      t.match(output, "- Resource 'redis' was abandoned")
      t.match(output, "no resource or hook 'rediss'. Did you mean 'redis'?")
      t.match(output, /app\.test/, 'the stack names the test file')
    })

    void t.test('a forgotten rejection while an app is open is reported by the runner, and the exit code is 1', async t => {
      const { code, output } = await runFile(t, runner, `
        test('first', async () => {
          const app = await build()
          void Promise.reject(new Error('forgotten rejection'))
          await new Promise(resolve => setTimeout(resolve, 100))
          await app.close()
        })
        test('second', async () => { say('second is over') })`)
      t.equal(code, 1)
      t.match(output, /forgotten rejection/)
      t.match(output, /second is over/)
    })
  })
}

void t.test('a file of node:test that runs without --test sets no variable: signals: false leaves the process to it', async t => {
  const runner = { ...runners['node:test']!, args: (folder: string) => [join(folder, 'app.test.js')] }
  const { code, output } = await runFile(t, runner, `
    test('first', async () => {
      const before = listeners()
      const app = await build({ signals: false, delay: 0 })
      assert.deepStrictEqual(listeners(), before)
      await app.shutdown.start()
    })
    test('second', async () => { say('second is over') })`)
  t.equal(code, 0, output)
  t.match(output, /second is over/)
})

for (const [name, files, type] of [
  ['jest', ['jest.test.js', 'jest.config.js', 'to-commonjs.js'], 'commonjs'],
  ['vitest', ['vitest.test.js'], 'module']
] as const) {
  void t.test(`the file of docs/testing.md passes under ${name}, with its fake timers`, async t => {
    const project = join(directory, `project-${++projects}`)
    writeProject(project, files, type)
    // The configuration is the file of the page.
    const args = runners[name]!.args(project).filter((arg, index, all) => arg !== '--config' && all[index - 1] !== '--config')
    const child = run(t, { args, cwd: project, env: { CI: 'true', NO_COLOR: '1' } })
    const { code, stderr } = await child.ended
    const output = child.lines.join('\n') + stderr
    t.equal(code, 0, output)
    t.match(output, /Tests: +2 passed|Tests +2 passed/)
  })
}
