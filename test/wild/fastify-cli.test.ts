/**
 * Apps that `fastify generate` makes and `fastify start` runs. The plugin is registered in a file of plugins/, which
 * @fastify/autoload loads in an encapsulated context.
 */
import { execFile } from 'node:child_process'
import { appendFileSync, cpSync, mkdirSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { run, translate, type Child } from '../helpers/children'
import { eventually } from '../helpers/client'
import { freePort } from '../helpers/services'

const exec = promisify(execFile)
const root = join(__dirname, '../..')
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
  /** The app is wrapped in fastify-plugin, so that it is not encapsulated. */
  readonly wrapped?: boolean
}

let apps = 0

/** Generates an app with a slow route, a slow resource and the plugin. */
async function generate ({ options = '{}', direct = false, esm = false, wrapped = false }: Options): Promise<string> {
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
  if (wrapped) appendFileSync(join(app, 'app.js'), "module.exports = require('fastify-plugin')(module.exports)\n")
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

interface Started extends Child {
  readonly port: number
  /** Changes a file of the app. */
  touch(): void
}

async function start (t: Test, options: Options): Promise<Started> {
  return await startApp(t, await generate(options), 'app.js', options.args)
}

/** @param args more arguments of `fastify start` */
async function startApp (t: Test, app: string, file: string, args: readonly string[] = []): Promise<Started> {
  const child = run(t, {
    args: [cli, 'start', ...args, ...args.includes('-p') ? [] : ['-p', '0'], '-l', 'info', '-a', '127.0.0.1', file],
    cwd: app,
    group: args.includes('-w')
  })
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
  return { ...child, port, touch: () => appendFileSync(join(app, 'routes/slow.js'), '\n') }
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
  'an app that is wrapped in fastify-plugin': { wrapped: true },
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

void t.test('the TypeScript template compiles with the types of the plugin, drains, and exits with 0', async t => {
  const app = join(directory, 'app-ts')
  await exec(process.execPath, [cli, 'generate', app, '--lang=ts'])
  const tsc = require.resolve('typescript/bin/tsc')
  // The package as it is published, because the app compiles against its declarations.
  const installed = join(app, 'node_modules/fastify-shutdown')
  mkdirSync(installed, { recursive: true })
  cpSync(join(root, 'package.json'), join(installed, 'package.json'))
  await exec(process.execPath, [tsc, '-p', join(root, 'tsconfig.build.json'), '--outDir', join(installed, 'dist')])
  writeFileSync(join(app, 'src/plugins/shutdown.ts'), `
    import fp from 'fastify-plugin'
    import gracefulShutdown from 'fastify-shutdown'

    export default fp(async (fastify) => {
      fastify.register(gracefulShutdown, {
        resources: { database: { close: async () => { console.log('database closed', fastify.shutdownState.phase) } } },
        onReport: ({ outcome, exitCode }) => { console.log('report', outcome, exitCode) }
      })
    })
  `)
  writeFileSync(join(app, 'src/routes/slow.ts'), `
    import { type FastifyPluginAsync } from 'fastify'

    const slow: FastifyPluginAsync = async (fastify): Promise<void> => {
      fastify.get('/slow', async () => {
        console.log('slow begins')
        await new Promise(resolve => setTimeout(resolve, 1500))
        return fastify.shutdownState.phase
      })
    }

    export default slow
  `)
  // The template does not set it, and TypeScript 6 requires it (TS5011).
  await exec(process.execPath, [tsc, '--rootDir', 'src'], { cwd: app })
  const child = await startApp(t, app, 'dist/app.js')
  t.equal(await get(child.port, '/example'), '200 this is an example')
  const answer = get(child.port, '/slow')
  await child.said('slow begins')
  child.kill('SIGTERM')
  t.equal(await answer, '200 draining')
  const { code, signal, stderr } = await child.ended
  t.strictSame([code, signal, stderr], [0, null, ''])
  t.strictSame([child.count('database closed cleaning'), child.count('report clean 0')], [1, 1])
})

void t.test('fastify start --watch', async t => {
  /** Begins a slow request, and waits until its handler runs. */
  async function begin (child: Started): Promise<{ readonly answer: Promise<string> }> {
    const earlier = child.count('slow begins')
    const answer = get(child.port, '/slow')
    await eventually(() => child.count('slow begins') > earlier, () => child.lines)
    return { answer }
  }

  void t.test('two changes during a request: it is answered, and the next process listens on the same port', async t => {
    const child = await start(t, { args: ['-w', '-p', String(await freePort())] })
    const { answer } = await begin(child)
    // The watch begins some time after the app.
    while (!child.lines.some(line => line.includes('"msg":"shutdown: draining"'))) {
      child.touch()
      await pause(200)
    }
    child.touch()
    t.equal(await answer, '200 draining')
    t.equal(await child.said('report'), 'clean 0')
    while (await get(child.port, '/').catch(() => '') !== '200 {"root":true}') await pause(50)
    t.notMatch((await stop(child)).stderr, 'EADDRINUSE')
  })

  void t.test('SIGTERM to the parent alone: the child answers its request, closes its resources, and ends', async t => {
    const child = await start(t, { args: ['-w'] })
    const { answer } = await begin(child)
    process.kill(child.process.pid!, 'SIGTERM')
    t.equal(await answer, '200 draining')
    const { signal, stderr } = await child.ended
    t.strictSame([signal, stderr], ['SIGTERM', ''], 'fastify-cli has no listener of its own in the parent')
    t.strictSame([child.count('database closed'), child.count('report clean 0')], [1, 1])
  })

  void t.test('Ctrl-C: the request is answered, and the resources close', async t => {
    const child = await start(t, { args: ['-w'] })
    const { answer } = await begin(child)
    t.equal((await stop(child)).stderr, '')
    t.equal(await answer, '200 draining')
    t.strictSame([child.count('database closed'), child.count('report clean 0')], [1, 1])
  })

  async function pause (ms: number): Promise<void> {
    await new Promise(resolve => { setTimeout(resolve, ms) })
  }

  async function stop (child: Started): ReturnType<() => Started['ended']> {
    child.kill('SIGINT')
    return await child.ended
  }
})
