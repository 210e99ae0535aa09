/** The documents agree with the code and with each other. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'

const root = join(__dirname, '..')
const read = (file: string): string => readFileSync(join(root, file), 'utf8')

const docs = readdirSync(join(root, 'docs')).filter(file => file.endsWith('.md')).map(file => `docs/${file}`)
const community = ['SECURITY.md', 'CODE_OF_CONDUCT.md', 'PULL_REQUEST_TEMPLATE.md'].map(file => `.github/${file}`)
const generated = readdirSync(join(root, 'docs/api')).map(file => `docs/api/${file}`)
const pages = ['README.md', 'README.zh-CN.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'examples/service/README.md', ...community, ...docs]
const readme = read('README.md')

/** The text between a heading of level 2 and the next one. */
function section (markdown: string, heading: string): string {
  const found = markdown.split(/^## /m).find(part => part.startsWith(`${heading}\n`))
  if (found === undefined) throw new Error(`There is no section '${heading}'`)
  return found
}

const captures = (text: string, pattern: RegExp): string[] => [...text.matchAll(pattern)].map(match => match[1]!)
const sorted = (names: Iterable<string>): string[] => [...new Set(names)].sort()

const optionNames = sorted(captures(/const names = \[(.*?)\]/s.exec(read('lib/options.ts'))![1]!, /'(\w+)'/g))

t.test("the README's table has every option, and no other", async t => {
  t.ok(optionNames.length > 10)
  t.strictSame(sorted(captures(section(readme, 'Options'), /^\| \[`(\w+)`\]/gm)), optionNames)
})

t.test('docs/options.md has a section for every option, with type, default, rule and example, and no other', async t => {
  const page = read('docs/options.md')
  t.strictSame(sorted(captures(page, /^## `(\w+)`$/gm)), optionNames)
  for (const name of optionNames) {
    const text = section(page, `\`${name}\``)
    for (const part of ['- Type:', '- Rule:', '```js']) t.ok(text.includes(part), `${name}: ${part}`)
    t.match(text, /- Default:|\| default \|/, `${name}: its default`)
  }
})

t.test("the README's list has every error code, and no other", async t => {
  const codes = sorted(captures(read('lib/errors.ts'), /'(FST_ERR_SHUTDOWN_\w+)'/g))
  t.ok(codes.length > 10)
  t.strictSame(sorted(captures(section(readme, 'Error codes'), /^\| `(FST_ERR_\w+)`/gm)), codes)
})

t.test('no document names an error code that does not exist', async t => {
  const codes = captures(read('lib/errors.ts'), /'(FST_ERR_SHUTDOWN_\w+)'/g)
  for (const page of pages) for (const code of captures(read(page), /\b(FST_ERR_SHUTDOWN_\w+)/g)) t.ok(codes.includes(code), `${page}: ${code}`)
})

/** As GitHub makes them from the headings outside of code blocks. */
function anchors (markdown: string): Set<string> {
  const headings = captures(markdown.replace(/^```.*?^```/gms, ''), /^#{1,6} (.+)$/gm)
  const ids = captures(markdown, /<a id="([^"]+)">/g)
  return new Set([...headings.map(heading => heading.toLowerCase().replace(/[^\p{L}\p{N}_\- ]/gu, '').replaceAll(' ', '-')), ...ids])
}

t.test('every relative link leads to a file, and every #anchor to a heading', async t => {
  let count = 0
  for (const page of [...pages, ...generated]) {
    for (const link of captures(read(page).replace(/^```.*?^```/gms, ''), /\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(link)) continue
      count++
      const [path, anchor] = link.split('#') as [string, string | undefined]
      const target = path === '' ? join(root, page) : join(root, dirname(page), path)
      t.ok(existsSync(target), `${page}: ${link}`)
      if (anchor !== undefined && existsSync(target)) t.ok(anchors(readFileSync(target, 'utf8')).has(anchor), `${page}: ${link}`)
    }
  }
  t.ok(count > 50, 'the pattern finds links')
})

t.test('the README links to every page of docs/', async t => {
  for (const page of docs) t.match(readme, `](${page}`, page)
})

t.test('docs/benchmarks.md is what its generator makes of the results', async t => {
  const script = "import { readFileSync } from 'node:fs'; import { page } from './bench/support/markdown.mjs'\n" +
    "process.stdout.write(page(JSON.parse(readFileSync('docs/benchmarks/results.json', 'utf8'))))"
  t.equal(execFileSync(process.execPath, ['--input-type=module', '--eval', script], { cwd: root, encoding: 'utf8' }), read('docs/benchmarks.md'))
})

t.test('docs/compatibility.md has a row for every promise that other runtimes are checked for, and no other', async t => {
  const script = "import { promises } from './test/runtimes/promises.mjs'\nimport { readTable } from './test/runtimes/checks.mjs'\n" +
    'process.stdout.write(JSON.stringify([promises.map(([name]) => name), [...readTable()]]))'
  const [names, rows] = JSON.parse(execFileSync(process.execPath, ['--input-type=module', '--eval', script], { cwd: root, encoding: 'utf8' })) as [string[], Array<[string, object]>]
  t.ok(names.length > 30)
  t.strictSame(rows.map(([name]) => name), names)
  for (const [name, seen] of rows) t.strictSame(Object.keys(seen), ['bun', 'deno'], name)
})

/** Words that the house style replaces: the subject of a sentence is a thing. */
const replaced = /\b(?:whoever|whomever|whom|nobody|strangers?|those who)\b/gi

t.test('no document uses a word that the house style replaces', async t => {
  for (const page of pages) {
    const found = read(page).split('\n').flatMap((line, index) => line.match(replaced)?.map(word => `line ${index + 1}: ${word}`) ?? [])
    t.strictSame(found, [], page)
  }
})

t.test('the two commands stand in the README above the API', async t => {
  const api = readme.indexOf('\n## `fastify.shutdownState`')
  for (const command of ['npm ci\nnpm run demo\n', 'npm ci\nnpm test\n']) {
    const at = readme.indexOf(`\`\`\`sh\n${command}\`\`\``)
    t.ok(at >= 0 && at < api, command)
  }
})
