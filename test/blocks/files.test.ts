/** Files that the pages show are read and run by the platform that they are for. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import ts from 'typescript'
import { parseDocument } from 'yaml'
import { checkBudget } from '../../lib/cli/budget/budget'
import { readDeployments } from '../../lib/cli/budget/files'
import { blocksOf, blocksOfKind, fileName, type Block } from '../helpers/blocks'
import { declarations, withoutTypes } from '../helpers/block-programs'
import { listening, preload } from '../helpers/block-runs'
import { run } from '../helpers/children'
import { directoryWithPackage } from '../helpers/package'
import { createPm2 } from '../helpers/pm2'
import { findServer, unless } from '../helpers/services'

const root = join(__dirname, '../..')
const directory = directoryWithPackage(t, [])
const quickStart = blocksOf('README.md').find(({ language }) => language === 'js')!
writeFileSync(join(directory, 'server.js'), quickStart.code)

/** The blocks that a test below reads. */
const read = new Set<string>()

/** Returns the block of this page in this language. */
function block (page: string, language: string): Block {
  const found = [...blocksOfKind('file'), ...blocksOfKind('manifest')].filter(each => each.page === page && each.language === language)
  if (found.length !== 1) throw new Error(`${page} has ${found.length} blocks of ${language}`)
  read.add(found[0]!.place)
  return found[0]!
}

/** Writes a file into the directory, with its folders. */
function write (file: string, text: string): string {
  const path = join(directory, file)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text)
  return path
}

/** Whether a program is there. If not, the rest of the test is skipped; with REQUIRE_SERVICES=1 the test fails. */
function has (t: Test, program: string): boolean {
  if (spawnSync(program, ['--version']).error === undefined) return true
  const line = `install ${program} to run this`
  if (process.env.REQUIRE_SERVICES === '1') t.fail(line)
  else t.pass(line, { skip: line })
  return false
}

async function timesFit (t: Test, file: string): Promise<void> {
  const { deployments } = await readDeployments(join(directory, file))
  t.equal(deployments.length, 1)
  for (const deployment of deployments) t.strictSame(checkBudget(deployment, {}).findings, [], 'the times fit, as the budget command checks them')
}

t.test('the manifest of docs/kubernetes.md fits the schema of Kubernetes, and its times fit', async t => {
  const document = parseDocument(block('docs/kubernetes.md', 'yaml').code)
  t.strictSame(document.errors, [])
  const { Deployment } = await import('kubernetes-models/apps/v1/Deployment')
  const manifest = document.toJS()
  new Deployment(manifest).validate()
  t.throws(() => new Deployment({ ...manifest, spec: { ...manifest.spec, replicas: 'two' } }).validate(), { message: /replicas/ })
  write('deployment.yaml', String(document))
  await timesFit(t, 'deployment.yaml')
})

t.test('the container of docs/docker.md stops by its signal, and its times fit', async t => {
  const lines = block('docs/docker.md', 'dockerfile').code.trim().split('\n')
  t.ok(lines.every(line => /^(?:STOPSIGNAL|CMD) /.test(line)))
  const signal = lines.find(line => line.startsWith('STOPSIGNAL '))!.slice('STOPSIGNAL '.length) as NodeJS.Signals
  const [program, ...args] = JSON.parse(lines.find(line => line.startsWith('CMD '))!.slice('CMD '.length))
  const child = run(t, { program, args, cwd: directory, env: preload })
  await listening(child)
  child.kill(signal)
  t.match(await child.ended, { code: 0, signal: null })

  const { code } = block('docs/docker.md', 'yaml')
  const compose = parseDocument(code)
  t.strictSame(compose.errors, [])
  t.strictSame(Object.keys(compose.toJS()), ['services'])
  write('compose.yaml', code)
  await timesFit(t, 'compose.yaml')
})

t.test('systemd accepts the unit of docs/systemd.md, and its times fit', async t => {
  const { code } = block('docs/systemd.md', 'ini')
  const verify = (text: string): string[] => {
    const { stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', '--recursive-errors=no', write('fastify-service.service', text)], { encoding: 'utf8' })
    // The machine's other units do not matter, nor whether node has the same path as on a server.
    return stderr.split('\n').filter(line => line.includes('fastify-service.service') && !line.includes('is not executable'))
  }
  if (has(t, 'systemd-analyze')) {
    t.not(verify(code.replace('TimeoutStopSec=', 'TimeoutStopSeconds=')).length, 0, 'systemd rejects a wrong one')
    t.strictSame(verify(code), [])
  }
  write('fastify-service.service', code)
  await timesFit(t, 'fastify-service.service')
})

t.test('PM2 starts, reloads and stops the apps of docs/pm2.md, and their times fit', { timeout: 90_000 }, async t => {
  const found = block('docs/pm2.md', 'js')
  // PM2 itself needs the type to start an ES module.
  write('pm2/package.json', '{ "type": "module" }')
  write('pm2/server.js', quickStart.code)
  const file = write(join('pm2', fileName(found)!), found.code)
  await timesFit(t, join('pm2', fileName(found)!))
  const pm2 = createPm2(t, preload, join(directory, 'pm2'))
  await pm2.run('start', file)
  const apps = async (): Promise<Array<{ pm2_env: { status: string, exit_code?: number } }>> => {
    const text = await pm2.run('jlist')
    return JSON.parse(text.slice(text.lastIndexOf('\n[') + 1))
  }
  t.strictSame((await apps()).map(({ pm2_env: { status } }) => status), ['online', 'online'], 'both are ready')
  await pm2.run('reload', 'service')
  t.strictSame((await apps()).map(({ pm2_env: { status } }) => status), ['online', 'online'])
  await pm2.run('stop', 'service')
  t.strictSame((await apps()).map(({ pm2_env: { status, exit_code: code } }) => [status, code]), [['stopped', 0], ['stopped', 0]])
})

void findServer('redis').then(redis => {
  for (const language of ['js', 'ts']) {
    t.test(`fastify-cli runs the plugin of docs/fastify-cli.md in ${language}, with the worker that the page adds`, unless('redis', redis !== undefined), async t => {
      const plugin = block('docs/fastify-cli.md', language)
      const [folder, name] = [`cli-${language}`, fileName(plugin)!]
      // The second argument of `register`, in the text of the page. test/newcomer.test.ts uses the block as it is.
      const options = /`(\{ resources: [^`]+)`/.exec(readFileSync(join(root, plugin.page), 'utf8'))![1]!
      const register = /(?<=fastify\.register\(.*)\)\n/
      t.match(plugin.code, register)
      const withWorker = plugin.code.replace(register, `, ${options})\n`)
      const code = language === 'js' ? withWorker : withoutTypes(withWorker)
      // The options use a worker of the reader. It is declared in front of the block, in an ES module.
      const own = declarations("worker; import { createRequire } from 'node:module'", plugin)
      const toCommonJs = (text: string): string => ts.transpile(text, { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022, esModuleInterop: true })
      write(`${folder}/${name.replace(/ts$/, 'js')}`, toCommonJs([...own, code].join('\n')))
      const plugins = dirname(name)
      write(`${folder}/app.js`, `module.exports = async (app, _options) => { app.register(require('@fastify/autoload'), { dir: require('node:path').join(__dirname, '${plugins}') }); app.get('/', async () => 'hello') }`)
      const child = run(t, {
        args: [require.resolve('fastify-cli/cli.js'), 'start', '-l', 'info', '-a', '127.0.0.1', 'app.js'],
        cwd: join(directory, folder),
        env: { ...preload, REDIS_URL: `redis://${redis!.host}:${redis!.port}` }
      })
      const { port } = await listening(child)
      t.equal(await (await fetch(`http://127.0.0.1:${port}/`)).text(), 'hello')
      child.kill('SIGTERM')
      const { code: exitCode, stderr } = await child.ended
      t.equal(exitCode, 0, `${child.lines.join('\n')}${stderr}`)
      t.match(child.lines.join('\n'), /"name":"worker","outcome":"closed"/, 'the worker is closed')
    })
  }

  t.test('a file of a page is read by a test above, or by one of another file', async t => {
    /** Files that others need: the programs after `tracing.js`, and the drills. */
    const elsewhere = [/^docs\/compatibility\.md/, /^docs\/drill\.md/]
    const places = [...blocksOfKind('file'), ...blocksOfKind('manifest')].map(({ place }) => place)
    t.strictSame(places.filter(place => !read.has(place) && !elsewhere.some(each => each.test(place))), [])
  })
})
