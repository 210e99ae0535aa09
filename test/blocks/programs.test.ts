/**
 * Each program of the pages runs as a process of its own. It answers requests to its routes, ends them properly at
 * SIGTERM, writes no warning, and exits with code 0.
 */
import { EventEmitter, once } from 'node:events'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import Fastify from 'fastify'
import t from 'tap'
import ts from 'typescript'
import gracefulShutdown from '../../lib/index'
import { blocksOf, blocksOfKind, type Block } from '../helpers/blocks'
import { completeProgram, freeNames } from '../helpers/block-programs'
import { runPrograms } from '../helpers/block-runs'
import { shape } from '../helpers/shape'

const blocks = blocksOfKind('program')
const root = join(__dirname, '../..')

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
    // A comparison in both directions.
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

void runPrograms(t, blocks.filter(({ page }) => page !== 'docs/options.md'))
