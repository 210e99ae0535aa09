/**
 * The commands of the pages run in a folder with the package: those of this package and their pipelines as they are,
 * with a shorter traffic and fewer restarts for the drill. A command of a clone of the repository must exist there, with its options.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { blocksOf, blocksOfKind, type Block } from '../helpers/blocks'
import { listening, preload } from '../helpers/block-runs'
import { lineWith, run, type Child } from '../helpers/children'
import { spawnExample, translateExample } from '../helpers/example-service'
import { directoryWithPackage } from '../helpers/package'
import { findServer, unless } from '../helpers/services'
import { shape } from '../helpers/shape'

const root = join(__dirname, '../..')
const read = (file: string): string => readFileSync(join(root, file), 'utf8')
const directory = directoryWithPackage(t, [])
const write = (file: string, text: string): void => { writeFileSync(join(directory, file), text) }

// The files that the commands name.
cpSync(join(root, 'deploy'), join(directory, 'deploy'), { recursive: true })
cpSync(join(root, 'deploy/docker/compose.yaml'), join(directory, 'compose.yaml'))
mkdirSync(join(directory, 'overlays/production'), { recursive: true })
write('overlays/production/kustomization.yaml', 'resources: [../../deploy/kubernetes/base]\n')
const quickStart = blocksOf('README.md').find(({ language }) => language === 'js')!
write('server.js', quickStart.code)

/** The commands of a block: one per line, joined where a line continues, without comments. */
function commandsOf ({ code }: Block): string[] {
  return code.replaceAll(/ *\\\n */g, ' ').split('\n').map(line => line.replace(/(?:^|\s+)#.*/, '')).filter(line => line !== '')
}

/** Runs a script with bash. `npx` finds the programs without a registry, and a pipeline fails if a part of it fails. */
function bash (t: Test, script: string, env: NodeJS.ProcessEnv = {}): Child {
  const bin = `${join(directory, 'node_modules/.bin')}:${join(root, 'node_modules/.bin')}`
  return run(t, {
    program: 'bash',
    args: ['-c', `set -e -o pipefail; npx () { command "$@"; }; ${script}`],
    cwd: directory,
    env: { ...preload, ...env, PATH: `${bin}:${process.env.PATH ?? ''}` }
  })
}

/** The block of a page whose code contains this text. */
const block = (page: string, text: string): Block => {
  const found = [...blocksOfKind('commands'), ...blocksOfKind('console')].filter(each => each.page === page && each.code.includes(text))
  if (found.length !== 1) throw new Error(`${page}: ${found.length} blocks with ${text}`)
  return found[0]!
}

/** Commands that run below, by the beginning of the line, with their tests. A pipeline counts as one. */
const running = [/^npx fastify-shutdown /, /^kubectl .*\| npx fastify-shutdown /, /^node server\.js \|/, /^fastify start /, /^DATABASE_URL=/, /^curl /]

t.test('a command of a clone exists in this repository, with its options', async t => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
  const continuous = read('.ci/run')
  for (const each of blocksOfKind('commands')) {
    for (const command of commandsOf(each).flatMap(line => line.split(' && '))) {
      if (running.some(pattern => pattern.test(command))) continue
      const [program, ...args] = command.split(' ')
      const line = `${each.place}: ${command}`
      if (command === 'npm ci') t.ok(existsSync(join(root, 'package-lock.json')), line)
      else if (program === 'npm') {
        const script = scripts[args[0] === 'run' ? args[1]! : args[0]!]
        t.type(script, 'string', line)
        const source = sourceOf(script!)
        for (const option of args.filter(arg => /^--\w/.test(arg))) t.ok(source.includes(option.split('=')[0]!.slice(2)), `${line}: ${option}`)
      } else if (program === 'node') t.ok(existsSync(join(root, args[0]!.replace(/^dist\/(.*)\.js$/, '$1.ts'))), line)
      else if (program === 'npx') t.ok(args[0] === 'tap' && existsSync(join(root, args.at(-1)!)), line)
      else if (program === '.ci/run') for (const step of args) t.match(continuous, new RegExp(`^if step ${step}; then$`, 'm'), line)
      else if (program === '.ci/coverage') t.ok(existsSync(join(root, program)), line)
      else t.fail(`${line}: no rule for this command`)
    }
  }
})

/** The text of the files of the program that a script starts. */
function sourceOf (script: string): string {
  if (/^tap/.test(script)) return 'no-disable-coverage coverage-report'
  const file = /(?:node|tsx) (\S+)/.exec(script)?.[1]?.replace(/^dist\/(.*)\.js$/, '$1.ts')
  if (file === undefined) return ''
  const folder = join(root, file, '..')
  return readdirSync(folder).filter(name => /\.m?[jt]s$/.test(name)).map(name => readFileSync(join(folder, name), 'utf8')).join('\n')
}

t.jobs = 3
const together = { buffered: true, timeout: 120_000 }

const hasKubectl = spawnSync('kubectl', ['version', '--client']).error === undefined
const noKubectl = 'no kubectl: install kubectl'
if (!hasKubectl && process.env.REQUIRE_SERVICES === '1') throw new Error(noKubectl)

for (const command of commandsOf(block('docs/choosing-times.md', 'budget'))) {
  t.test(`docs/choosing-times.md: ${command}`, { ...together, skip: command.startsWith('kubectl') && !hasKubectl && noKubectl }, async t => {
    const child = bash(t, command)
    const { code, stderr } = await child.ended
    t.equal(code, 0, child.lines.join('\n') + stderr)
  })
}

t.test('docs/deployment.md shows what the budget command prints', together, async t => {
  const [first, ...output] = block('docs/deployment.md', '$ npx').code.trim().split('\n')
  const child = bash(t, first!.replace('$ ', ''))
  t.equal((await child.ended).code, 1)
  t.strictSame(child.lines, output)
})

/**
 * Less traffic and fewer restarts. On a machine under load, a server may close an idle connection while a request comes:
 * the README names this limit, so a few lost requests are allowed.
 */
const short = (command: string): string => command.replace(/(fastify-shutdown drill)/, '$1 --before 0.3 --lost 5').replace(/--restarts \d+/, '--restarts 2')

t.test('docs/drill.md shows what a drill prints', together, async t => {
  const child = bash(t, `${short(block('docs/drill.md', 'drill -- node').code.trim())} 2>&1`)
  const { code, stderr } = await child.ended
  t.equal(code, 0, child.lines.join('\n') + stderr)
  const shown = blocksOf('docs/drill.md').find(({ language }) => language === 'text')!.code
  // A phase that the drill did not see is not in the line of the process.
  const lines = (text: string): string[] => shape(text).map(line => line.replace(/^(process .*) \(start .*\)$/, '$1'))
  const printed = lines(child.lines.join('\n'))
  t.strictSame(lines(shown).filter(line => !printed.includes(line) && !line.startsWith('verdict')), [])
  t.match(printed.at(-1), /^verdict: passed, 0 lost of 0 requests/)
})

t.test('docs/drill.md: the traffic file', together, async t => {
  write('traffic.json', blocksOf('docs/drill.md').find(({ language }) => language === 'json')!.code)
  mkdirSync(join(directory, 'drill'))
  write('drill/server.mjs', `import Fastify from 'fastify'
import websocket from '@fastify/websocket'
import gracefulShutdown from 'fastify-shutdown'
const app = Fastify()
await app.register(gracefulShutdown)
await app.register(websocket)
app.get('/search', async request => request.query)
app.post('/orders', async request => ({ tenant: request.headers['x-tenant'], ...request.body }))
app.get('/events', async (_request, reply) => reply.header('content-type', 'text/event-stream').send(app.shutdown.stream(events(), { end: 'event: end\\n\\n' })))
app.get('/live', { websocket: true }, () => {})
async function * events () { for (;;) { yield 'data: 1\\n\\n'; await new Promise(resolve => setTimeout(resolve, 50)) } }
await app.listen({ port: 3000, host: '127.0.0.1' })
`)
  const child = bash(t, short('npx fastify-shutdown drill --traffic traffic.json --json -- node drill/server.mjs'))
  const { code, stderr } = await child.ended
  t.equal(code, 0, child.lines.join('\n') + stderr)
  const { options, requests, streams, webSockets } = JSON.parse(child.lines.join('\n'))
  t.match(options, { rate: 100, connections: 8, requests: [...Array(3).fill('GET /search?q=a'), 'POST /orders'] })
  t.ok(requests.answered > 0)
  t.match(streams, { opened: 2, ended: 2 })
  t.match(webSockets, { opened: 2, closed: 2 })
})

t.test('docs/drill.md: the steps for CI', together, async t => {
  const steps: Array<{ run?: string, uses?: string, with?: { name: string, path: string } }> = parse(blocksOf('docs/drill.md').find(({ language }) => language === 'yaml')!.code)
  for (const { run: script, uses, with: inputs } of steps) {
    if (script !== undefined) {
      const child = bash(t, short(script), { GITHUB_STEP_SUMMARY: join(directory, 'summary.md') })
      const { code, stderr } = await child.ended
      t.equal(code, 0, child.lines.join('\n') + stderr)
    } else {
      t.equal(uses, 'actions/upload-artifact@v4')
      for (const file of inputs!.path.trim().split('\n')) t.ok(existsSync(join(directory, file)), file)
    }
  }
  t.match(readFileSync(join(directory, 'summary.md'), 'utf8'), '## Shutdown drill: passed')
})

t.test('docs/drill.md: a running server, once and with restarts', together, async t => {
  const [once, often] = commandsOf(block('docs/drill.md', '--pid-file'))
  const server = run(t, { args: ['server.js'], cwd: directory, env: preload })
  const { port, pid } = await listening(server)
  const there = (command: string, port: number): string => short(command).replace('127.0.0.1:3000', `127.0.0.1:${port}`).replace('--pid 4711', `--pid ${pid}`).replace('/run/service.pid', 'service.pid')
  const one = bash(t, there(once!, port))
  t.equal((await one.ended).code, 0, one.lines.join('\n'))
  t.match(await server.ended, { code: 0, signal: null })

  // A supervisor that starts the server again, on the port of the first one, and writes its pid.
  write('supervisor.cjs', `const { spawn } = require('node:child_process')
const { writeFileSync } = require('node:fs')
function start () {
  const child = spawn(process.execPath, ['server.js'], { env: { ...process.env, NODE_OPTIONS: process.env.SERVER_OPTIONS }, stdio: ['ignore', 'ignore', 'inherit'] })
  child.once('spawn', () => writeFileSync('service.pid', String(child.pid)))
  child.once('exit', start)
  process.once('SIGTERM', () => { child.removeListener('exit', start); child.once('exit', () => process.exit(0)); child.kill() })
}
process.setMaxListeners(0)
start()
`)
  const supervisor = run(t, { args: ['supervisor.cjs'], cwd: directory, env: { SERVER_OPTIONS: preload.NODE_OPTIONS, LISTEN_PORT: String(port) } })
  await listening(supervisor)
  const many = bash(t, there(often!, port))
  t.equal((await many.ended).code, 0, many.lines.join('\n'))
  supervisor.kill('SIGTERM')
  t.equal((await supervisor.ended).code, 0)
})

t.test('docs/timeline.md: the log of a service becomes a timeline', together, async t => {
  const [service, ...rest] = commandsOf(block('docs/timeline.md', 'pino-pretty'))
  const child = bash(t, service!)
  const { port, pid } = await listening(child)
  await (await fetch(`http://127.0.0.1:${port}/`)).text()
  process.kill(pid, 'SIGTERM')
  t.equal((await child.ended).code, 0)
  t.ok(child.lines.some(line => /INFO.*: .*shutdown: clean in/.test(line.replace(/\x1b\[\d+m/g, ''))), child.lines.join('\n')) // eslint-disable-line no-control-regex
  for (const command of rest) {
    // The log of a pod is what its service has printed.
    const timeline = bash(t, command.replace(/^kubectl logs \S+/, 'cat service.log'))
    const { code, stderr } = await timeline.ended
    t.equal(code, 0, stderr)
    if (!command.includes('--html')) t.match(timeline.lines.at(-1), /^Clean shutdown in .*, exit code 0$/, command)
  }
  t.match(readFileSync(join(directory, 'timeline.html'), 'utf8'), '<svg')
  t.match(readFileSync(join(directory, 'timeline.svg'), 'utf8'), /^<svg/)
})

t.test('docs/fastify-cli.md: with `signals: false`, fastify-cli closes the app in the time of the option', together, async t => {
  mkdirSync(join(directory, 'cli'))
  write('cli/app.js', `module.exports = async (app, _options) => {
  await app.register(require('fastify-shutdown'), { signals: false, resources: { slow: { close: () => new Promise(resolve => setTimeout(resolve, 1_000)) } } })
}
`)
  const child = bash(t, `cd cli; exec ${block('docs/fastify-cli.md', 'fastify start').code.trim().replace('fastify start', 'fastify start -l info')}`)
  await listening(child)
  child.kill('SIGTERM')
  const { code, stderr } = await child.ended
  t.equal(code, 0, child.lines.join('\n') + stderr)
  t.ok(child.lines.some(line => line.includes('"level":40')), 'the log warns')
  t.ok(child.lines.some(line => line.includes('"msg":"shutdown: clean in 1')), child.lines.join('\n'))
})

void findServer('postgres').then(postgres => {
  t.test('examples/service/README.md: the service starts, and answers the requests', { ...together, ...unless('postgres', postgres !== undefined) }, async t => {
    const [assignment] = commandsOf(block('examples/service/README.md', 'DATABASE_URL')).at(-1)!.split(' node dist/examples/service/main.js')
    const { host, port, user = 'postgres', password = 'postgres' } = postgres!
    t.match(assignment, /^DATABASE_URL=postgres:\/\/\w+:\w+@127\.0\.0\.1:5432\/postgres$/)
    const service = spawnExample(t, translateExample(t), { DATABASE_URL: `postgres://${user}:${password}@${host}:${port}/postgres`, HOST: '127.0.0.1' })
    const url = /http:\/\/[^"]+/.exec(await lineWith(service, 'Server listening at http://127.0.0.1'))![0]
    for (const command of commandsOf(block('examples/service/README.md', 'curl'))) {
      const answer = JSON.parse(execFileSync('bash', ['-c', command.replace('localhost:3000', url).replace('curl ', 'curl -sS ')], { encoding: 'utf8' }))
      t.ok(Number(answer.statusCode ?? 200) < 400, `${command}: ${JSON.stringify(answer).slice(0, 200)}`)
    }
    service.kill('SIGTERM')
    t.equal((await service.ended).code, 0)
  })

  t.test('each block of commands is run by a test above', async t => {
    const source = readFileSync(__filename, 'utf8')
    for (const { place, page, code } of [...blocksOfKind('commands'), ...blocksOfKind('console')]) {
      const runs = code.split('\n').some(line => running.some(pattern => pattern.test(line)))
      t.ok(!runs || source.includes(`'${page}'`), `${place}, in ${basename(__filename)}`)
    }
  })
})
