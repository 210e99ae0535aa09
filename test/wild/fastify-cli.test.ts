/**
 * Apps that `fastify generate` makes and `fastify start` runs. The plugin is registered in a file of plugins/, which
 * @fastify/autoload loads in an encapsulated context.
 */
import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import http from 'node:http'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { run, translate, type Child } from '../helpers/children'

const exec = promisify(execFile)
const directory = translate(t.testdir(), ['lib'])
const cli = require.resolve('fastify-cli/cli.js')
const library = JSON.stringify(join(directory, 'lib/index.js'))

interface Options {
  /** The options of the plugin, as code. */
  readonly options?: string
  /** The file of the plugin exports the plugin itself instead of a function that registers it. */
  readonly direct?: boolean
  /** More arguments of `fastify start`. */
  readonly args?: readonly string[]
  readonly esm?: boolean
}

let apps = 0

/** Generates an app with a slow route, a slow resource and the plugin. */
async function generate ({ options = '{}', direct = false, esm = false }: Options): Promise<string> {
  const app = join(directory, `app-${++apps}`)
  await exec(process.execPath, [cli, 'generate', app, ...esm ? ['--esm'] : []])
  const [imports, exports] = esm
    ? ['import { createRequire } from \'node:module\'\nconst require = createRequire(import.meta.url)\n', 'export default']
    : ['', 'module.exports =']
  const registered = `require('fastify-plugin')(async function (fastify) {
    fastify.register(require(${library}), {
      resources: { database: { close: async () => { await new Promise(resolve => setTimeout(resolve, 700)); console.log('database closed') } } },
      onReport: ({ outcome, exitCode }) => console.log('report ' + outcome + ' ' + exitCode),
      ...${options}
    })
  })`
  writeFileSync(join(app, 'plugins/shutdown.js'), `${imports}${exports} ${direct ? `require(${library})` : registered}\n`)
  writeFileSync(join(app, 'routes/slow.js'), `${imports}${exports} async function (fastify) {
    fastify.get('/slow', async () => {
      console.log('slow begins')
      await new Promise(resolve => setTimeout(resolve, 1500))
      return fastify.shutdownState.phase
    })
  }\n`)
  return app
}

async function start (t: Test, options: Options): Promise<Child & { readonly port: number }> {
  const app = await generate(options)
  const child = run(t, { args: [cli, 'start', ...options.args ?? [], '-l', 'info', '-p', '0', '-a', '127.0.0.1', 'app.js'], cwd: app })
  const port = await new Promise<number>((resolve, reject) => {
    const look = setInterval(() => {
      const port = /Server listening at http:\/\/127\.0\.0\.1:(\d+)/.exec(child.lines.join('\n'))?.[1]
      if (port !== undefined) {
        clearInterval(look)
        resolve(Number(port))
      }
    }, 20)
    void child.ended.then(({ stderr }) => {
      clearInterval(look)
      reject(new Error(`It did not start: ${child.lines.join(' | ')} ${stderr}`))
    })
  })
  return { ...child, port }
}

function get (port: number, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    http.get({ port, path, host: '127.0.0.1', agent: false }, response => {
      let body = ''
      response.setEncoding('utf8').on('data', chunk => { body += String(chunk) }).once('end', () => resolve(`${response.statusCode} ${body}`))
    }).once('error', reject)
  })
}

for (const [name, options] of Object.entries<Options>({
  'a generated app': {},
  'a generated app with ECMAScript modules': { esm: true },
  'an app with --options': { args: ['--options'] }
})) {
  void t.test(`${name} drains for its whole time, closes its resources, and exits with 0`, async t => {
    const child = await start(t, options)
    t.equal(await get(child.port, '/'), '200 {"root":true}')
    const answer = get(child.port, '/slow')
    await child.said('slow begins')
    child.kill('SIGTERM')
    t.equal(await answer, '200 draining')
    const { code, signal, stderr } = await child.ended
    t.strictSame([code, signal, stderr], [0, null, ''])
    t.strictSame([child.count('database closed'), child.count('report clean 0')], [1, 1])
    t.match(child.lines.join('\n'), /takes the place of fastify-cli's close-with-grace/)
  })
}

void t.test('a crash under fastify-cli drains, and exits with 1', async t => {
  const child = await start(t, { options: "{ exporters: [{ name: 'crash', start () { setTimeout(() => { throw new Error('boom') }, 1500) } }] }" })
  const answer = get(child.port, '/slow')
  t.match(await answer, /^200 /)
  t.equal((await child.ended).code, 1)
  t.equal(child.count('report failed 1'), 1)
})

void t.test('the file of plugins/ may export the plugin itself', async t => {
  const child = await start(t, { direct: true })
  const answer = get(child.port, '/slow')
  await child.said('slow begins')
  child.kill('SIGTERM')
  t.equal(await answer, '200 draining')
  t.equal((await child.ended).code, 0)
})

void t.test('with signals: false the log warns of the 500 ms of fastify-cli, and names the remedy', async t => {
  const child = await start(t, { options: '{ signals: false }' })
  t.match(child.lines.find(line => line.includes('--close-grace-delay')), /"level":40.*--close-grace-delay/)
  child.kill('SIGTERM')
  await child.ended
})

void t.test('the helper of fastify-cli for tests adds no listener of ours, and close() settles', async t => {
  const app = await generate({})
  const file = join(app, 'check.js')
  writeFileSync(file, `
    const { build } = require('fastify-cli/helper')
    build([${JSON.stringify(join(app, 'app.js'))}], { skipOverride: true }).then(async app => {
      const { statusCode } = await app.inject('/')
      console.log('status ' + statusCode, app.shutdownState.phase)
      await app.close()
      console.log('closed ' + app.shutdownState.phase)
    })
  `)
  const child = run(t, { args: [file], cwd: app, env: { NODE_TEST_CONTEXT: 'child-v8' } })
  const { code, stderr } = await child.ended
  t.strictSame([code, stderr], [0, ''])
  t.match(child.lines, ['status 200 running', 'database closed', 'report clean 0', 'closed shutdown'])
})
