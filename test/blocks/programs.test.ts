/**
 * Each program of the pages runs as a process of its own. It answers requests to its routes, ends them properly at
 * SIGTERM, writes no warning, and exits with code 0.
 */
import { EventEmitter, once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import Fastify from 'fastify'
import pg from 'pg'
import t, { type Test } from 'tap'
import ts from 'typescript'
import gracefulShutdown from '../../lib/index'
import { blocksOf, blocksOfKind, type Block } from '../helpers/blocks'
import { completeProgram, freeNames, type Program } from '../helpers/block-programs'
import { listening, preload } from '../helpers/block-runs'
import { run, type Child } from '../helpers/children'
import { receiveOtlp } from '../helpers/otlp'
import { directoryWithPackage } from '../helpers/package'
import { shape } from '../helpers/shape'
import { findServer, unless, type Server, type ServiceName } from '../helpers/services'

const blocks = blocksOfKind('program')
const directory = directoryWithPackage(t, [])
const root = join(__dirname, '../..')

/** The files that a program finds in its folder. */
const [quickStart] = blocksOf('README.md').filter(({ language }) => language === 'js')
writeFileSync(join(directory, 'server.js'), quickStart!.code)
writeFileSync(join(directory, 'tracing.js'), blocksOfKind('file').find(({ page }) => page === 'docs/compatibility.md')!.code)

t.test('a name that a block uses and does not declare is found', async t => {
  t.strictSame(freeNames('const { a: b } = c; d.e({ f: g, h }); function i (j) { return j + k() }; import l from "l"; l()'), ['c', 'd', 'g', 'h', 'k'])
  const block: Block = { place: 'docs/x.md:1', page: 'docs/x.md', language: 'js', code: 'app.get("/", () => unknown())' }
  t.throws(() => completeProgram(block), { message: "docs/x.md:1: the block uses 'unknown', which it does not declare" })
})

t.test('docs/events.md shows the last line of a log', async t => {
  const lines: string[] = []
  const app = Fastify({ logger: { stream: new Writable({ write (line, _encoding, done) { lines.push(JSON.parse(String(line)).msg); done() } }) } })
  await app.register(gracefulShutdown, { signals: false, delay: 0, timeouts: { requests: 600 }, resources: { redis: { close: () => new Promise(() => {}), force () {}, timeout: 100 } } })
  const handled = new EventEmitter()
  app.get('/slow', () => { handled.emit('slow'); return new Promise(() => {}) })
  app.get('/short', async () => { handled.emit('short'); await once(app.shutdownState.signal, 'abort'); return 'answered' })
  const began = [once(handled, 'slow'), once(handled, 'short')]
  const answers = [app.inject('/slow').catch(() => {}), app.inject('/short')]
  await Promise.all(began)
  app.shutdown.on('draining', () => { void app.inject('/short') })
  await app.shutdown.start()
  await Promise.all(answers)
  const shown = blocksOf('docs/events.md').find(({ language }) => language === 'text')!.code
  t.strictSame(shape(lines.at(-1)!), shape(shown))
})

t.test('the compiler accepts the blocks in TypeScript, and their types are those of the package', async t => {
  const typescript = [...blocks, ...blocksOfKind('file'), ...blocksOfKind('type')].filter(({ language }) => language === 'ts')
  t.ok(typescript.length >= 4)
  const files = new Map(typescript.map(({ place, code }) => [place, `export {}\n${code}`]))
  for (const [place, code] of files) {
    // A worker of the reader, and a comparison in both directions.
    if (code.includes('worker.')) files.set(place, `${code}declare const worker: { close (): Promise<void> }\n`)
    if (code.includes('interface Resource')) files.set(place, `${code}type Own = import('fastify-shutdown').Resource; declare const own: Required<Own>; const shown: Required<Resource> = own; const back: Required<Own> = shown; void back\n`)
  }
  files.set('wrong', "import gracefulShutdown from 'fastify-shutdown'\nexport const options: gracefulShutdown.Options = { delya: 1 }\n")
  for (const [place, errors] of typeErrors(files)) {
    if (place === 'wrong') t.match(errors, [/'delya' does not exist/], 'it rejects a wrong one')
    else t.strictSame(errors, [], place)
  }
})

/** Returns the errors of the compiler in files of this folder that do not exist on the disk. */
function typeErrors (files: ReadonlyMap<string, string>): Map<string, string[]> {
  const texts = new Map([...files].map(([name, text]) => [join(__dirname, `${name.replace(/\W+/g, '-')}.ts`), { name, text }]))
  const { options } = ts.parseJsonConfigFileContent({ ...ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile).config, include: [], files: [] }, ts.sys, root)
  const all: ts.CompilerOptions = {
    ...options, paths: { ...options.paths, 'fastify-shutdown': ['./lib/index.ts'] }, noEmit: true, noUnusedLocals: false, module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler
  }
  const host = ts.createCompilerHost(all)
  const { getSourceFile, fileExists } = host
  host.fileExists = file => texts.has(file) || fileExists(file)
  host.getSourceFile = (file, ...rest) => texts.has(file) ? ts.createSourceFile(file, texts.get(file)!.text, ts.ScriptTarget.ES2022, true) : getSourceFile(file, ...rest)
  const program = ts.createProgram([...texts.keys()], all, host)
  return new Map([...texts].map(([file, { name }]) => {
    const source = program.getSourceFile(file)
    const diagnostics = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)]
    return [name, diagnostics.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, ' '))]
  }))
}

void main()

async function main (): Promise<void> {
  const servers = Object.fromEntries(await Promise.all((['postgres', 'redis', 'mysql'] as const).map(async name => [name, await findServer(name)])))
  const env = await environment(servers)
  t.jobs = 4
  for (const block of blocks) {
    const program = completeProgram(block)
    const missing = program.services.find(name => servers[name] === undefined)
    t.test(`${block.place}: ${program.run} ${block.code.split('\n').find(line => !line.startsWith('import'))}`, { buffered: true, ...missing !== undefined && unless(missing, false) }, async t => {
      await runs[program.run](t, block, program, env)
    })
  }
}

/** Addresses of the servers. The tables of this test are in a schema of their own. */
async function environment (servers: Readonly<Partial<Record<ServiceName, Server>>>): Promise<NodeJS.ProcessEnv> {
  const { postgres, redis, mysql } = servers
  const env: NodeJS.ProcessEnv = {}
  if (redis !== undefined) env.REDIS_URL = `redis://${redis.host}:${redis.port}`
  if (mysql !== undefined) env.MYSQL_URL = process.env.MYSQL_URL ?? `mysql://root@${mysql.host}:${mysql.port}/mysql`
  if (postgres !== undefined) {
    const { host, port, user = 'postgres', password = 'postgres' } = postgres
    const url = `postgres://${user}:${password}@${host}:${port}/postgres`
    const schema = `blocks_${process.pid}`
    const client = new pg.Client(url)
    await client.connect()
    await client.query(`create schema ${schema}; create table ${schema}.access (url text, status int)`)
    t.teardown(async () => {
      await client.query(`drop schema ${schema} cascade`)
      await client.end()
    })
    env.POSTGRES_URL = `${url}?options=${encodeURIComponent(`-c search_path=${schema}`)}`
  }
  const otlp = await receiveOtlp(t)
  return { ...env, OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' }
}

const runs: Record<Program['run'], (t: Test, block: Block, program: Program, env: NodeJS.ProcessEnv) => Promise<void>> = {
  async serves (t, block, program, env) {
    const child = start(t, block, program, env)
    const { port } = await listening(child)
    const answers = await Promise.all(program.routes.map(async ({ method, path }) => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`, { method, ...method === 'POST' && { headers: { 'content-type': 'application/json' }, body: '{"item":1}' } })
      t.ok(response.status < 400, `${method} ${path}: ${response.status}`)
      return response
    }))
    if (program.routes.length === 0) await (await fetch(`http://127.0.0.1:${port}/`)).text()
    child.kill('SIGTERM')
    // A stream that is cut rejects here.
    await t.resolves(Promise.all(answers.map(answer => answer.text())))
    await endsWell(t, child)
  },
  async tests (t, block, program, env) {
    const child = start(t, block, program, env, ['--test'])
    await endsWell(t, child)
    t.equal(child.count('# fail 0'), 1)
    t.equal(child.count('# pass 0'), 0, 'there is a test')
  },
  async ends (t, block, program, env) {
    await endsWell(t, start(t, block, program, env))
  }
}

function start (t: Test, { place }: Block, { code }: Program, env: NodeJS.ProcessEnv, args: readonly string[] = []): Child {
  const file = `${place.replace(/\W+/g, '-')}.mjs`
  writeFileSync(join(directory, file), code)
  return run(t, { args: [...args, file], cwd: directory, env: { ...env, ...preload } })
}

/** The process exits with code 0. Its log has no line at level warn or above, and a clean shutdown. */
async function endsWell (t: Test, child: Child): Promise<void> {
  const { code, signal, stderr } = await child.ended
  const log = child.lines.filter(line => line.startsWith('{"level":')).map(line => JSON.parse(line) as { level: number, msg: string })
  t.strictSame({ code, signal }, { code: 0, signal: null }, `${child.lines.join('\n')}\n${stderr}`)
  t.strictSame(log.filter(({ level }) => level >= 40).map(({ msg }) => msg), [], 'no warning')
  // Not always the last line: at exit, pino writes its buffer while an earlier write is still in progress.
  if (log.length > 0) t.ok(log.some(({ msg }) => msg.startsWith('shutdown: clean in ')), 'the report is clean')
}
