/** docs/api/ is what `npm run docs:api` makes of the docstrings, and it has every public name. */
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

const root = join(__dirname, '..')
const typedoc = join(root, 'node_modules/typedoc/bin/typedoc')
const read = (...path: string[]): string => readFileSync(join(root, ...path), 'utf8')
const pagesOf = (folder: string): Record<string, string> => Object.fromEntries(
  readdirSync(folder).sort().map(file => [file, readFileSync(join(folder, file), 'utf8')])
)

t.test('docs/api agrees with the docstrings; if not, run `npm run docs:api`', async t => {
  const out = t.testdir({})
  execFileSync(process.execPath, [typedoc, '--out', out, '--logLevel', 'Warn'], { cwd: root, stdio: 'inherit' })
  t.strictSame(pagesOf(join(root, 'docs/api')), pagesOf(out))
})

t.test('a type that the reference mentions and does not have is an error', async t => {
  const folder = t.testdir({
    'tsconfig.json': '{ "files": ["index.ts"] }',
    'index.ts': '/** Has a type that is not exported. */\nexport interface Outer { /** One. */ readonly inner: Inner }\n/** Missing. */\ninterface Inner { readonly a: number }\n'
  })
  const { validation, treatValidationWarningsAsErrors, skipErrorChecking } = JSON.parse(read('typedoc.json'))
  writeFileSync(join(folder, 'typedoc.json'), JSON.stringify({ entryPoints: ['index.ts'], validation, treatValidationWarningsAsErrors, skipErrorChecking }))
  const { status, stdout, stderr } = spawnSync(process.execPath, [typedoc, '--options', join(folder, 'typedoc.json'), '--out', join(folder, 'out')], { cwd: folder, encoding: 'utf8' })
  t.not(status, 0)
  t.match(stdout + stderr, /Inner.*is referenced by Outer\.inner but not included in the documentation/)
})

t.test('each entry point of the package has a page', async t => {
  const { exports } = JSON.parse(read('package.json'))
  const names = Object.keys(exports).filter(name => !name.endsWith('.json')).map(name => name === '.' ? 'fastify-shutdown' : name.slice(2))
  t.strictSame(readdirSync(join(root, 'docs/api')).sort(), ['README.md', ...names.map(name => `${name}.md`).sort()])
})

t.test('the page of the plugin has every type of the default export', async t => {
  const [, list] = /declare namespace gracefulShutdown \{\n {2}export \{(.*?)\}/s.exec(read('lib/index.ts'))!
  const names = list!.split(',').map(name => name.trim().split(' as ')[0]!).filter(name => name !== 'gracefulShutdown')
  t.ok(names.length > 20)
  const headings = [...read('docs/api/fastify-shutdown.md').matchAll(/^### (\w+)/gm)].map(match => match[1]!)
  t.strictSame(names.filter(name => !headings.includes(name)), [])
  const types = headings.filter(name => /^[A-Z]/.test(name))
  t.strictSame(types.filter(name => !names.includes(name)), [], 'and the default export has every type of the page')
})
