/** docs/api/ is what `npm run docs:api` makes of the docstrings, and it has every public name. */
import { execFileSync } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

const root = join(__dirname, '..')
const read = (...path: string[]): string => readFileSync(join(root, ...path), 'utf8')
const pagesOf = (folder: string): Record<string, string> => Object.fromEntries(
  readdirSync(folder).sort().map(file => [file, readFileSync(join(folder, file), 'utf8')])
)

t.test('docs/api agrees with the docstrings; if not, run `npm run docs:api`', async t => {
  const out = t.testdir({})
  execFileSync(process.execPath, [join(root, 'node_modules/typedoc/bin/typedoc'), '--out', out, '--logLevel', 'Warn'], { cwd: root, stdio: 'inherit' })
  t.strictSame(pagesOf(join(root, 'docs/api')), pagesOf(out))
})

t.test('each entry point of the package has a page', async t => {
  const { exports } = JSON.parse(read('package.json'))
  const names = Object.keys(exports).filter(name => !name.endsWith('.json')).map(name => name === '.' ? 'fastify-shutdown' : name.slice(2))
  t.strictSame(readdirSync(join(root, 'docs/api')).sort(), ['README.md', ...names.map(name => `${name}.md`).sort()])
})

t.test('the page of the plugin has every type of the default export', async t => {
  const names = [...read('lib/index.ts').matchAll(/export type \w+ = Types\.(\w+)/g)].map(match => match[1]!)
  t.ok(names.length > 20)
  const headings = [...read('docs/api/fastify-shutdown.md').matchAll(/^### (\w+)/gm)].map(match => match[1]!)
  t.strictSame(names.filter(name => !headings.includes(name)), [])
})
