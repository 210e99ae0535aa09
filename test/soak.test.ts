/** The soak finds a leak, and docs/reliability.md names only tests that exist. */
import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import ts from 'typescript'

const root = join(__dirname, '..')
const read = (file: string): string => readFileSync(join(root, file), 'utf8')

/** The soak uses the build, as a user would. In CI it is always there. */
const skip = existsSync(join(root, 'dist/lib/index.js')) || process.env.REQUIRE_SERVICES === '1' ? false : 'run `npm run build` first'

/** Runs a module that imports from bench/. @returns the JSON that it prints */
async function run<T> (code: string): Promise<T> {
  // An environment without the variables of tap, in which the plugin listens to no signal.
  const { stdout } = await promisify(execFile)('env', ['-i', `PATH=${process.env.PATH}`, process.execPath, '--input-type=module', '--eval', code], { cwd: root, maxBuffer: 2 ** 26 })
  return JSON.parse(stdout) as T
}

interface Row {
  readonly what: string
  readonly holds: boolean
}

t.test('a series is flat if it has noise or one odd sample, and not if it grows slowly or is short', async t => {
  const series = {
    noise: Array.from({ length: 40 }, (_, i) => 20 + i * 7 % 5),
    odd: Array.from({ length: 40 }, (_, i) => i === 39 ? 900 : 20),
    warmUp: Array.from({ length: 40 }, (_, i) => Math.min(i, 9)),
    slow: Array.from({ length: 40 }, (_, i) => 20 + i * 7 % 5 + i / 10),
    short: [1, 1, 1, 1]
  }
  const flat = await run<Record<string, boolean>>(`import { flat } from './bench/support/flat.mjs'
    const series = ${JSON.stringify(series)}
    console.log(JSON.stringify(Object.fromEntries(Object.entries(series).map(([name, values]) => [name, flat(name, 2, values).holds]))))`)
  t.strictSame(flat, { noise: true, odd: true, warmUp: true, slow: false, short: false })
})

t.test('a leak of memory, of a listener and of a handle in a process that restarts its servers is found', { skip, timeout: 120_000 }, async t => {
  const soak = (leak: string | null): Promise<{ errors: string[], rows: Row[] }> => run(`import { series, startInProcess } from './bench/soak/restarts.mjs'
    const child = startInProcess({ sampleMs: 0, pauseMs: 0, leak: ${JSON.stringify(leak)}, restarts: 12 })
    const samples = await child.ended
    console.log(JSON.stringify({ errors: samples.at(-1).lastErrors, rows: series('', samples) }))`)
  const kinds = { memory: /memory, MB/, listener: /listeners/, handle: /handles/ }
  const [clean, ...leaking] = await Promise.all([soak(null), ...Object.keys(kinds).map(soak)])
  t.strictSame(clean!.errors, [])
  // A short run has not filled its caches, so its memory may still grow.
  t.strictSame(clean!.rows.filter(({ what, holds }) => !holds && !/memory/.test(what)), [])
  for (const [index, [leak, pattern]] of Object.entries(kinds).entries()) {
    const broken = leaking[index]!.rows.filter(({ holds }) => !holds).map(({ what }) => what)
    t.ok(broken.some(what => pattern.test(what)), `${leak}: ${broken.join(', ')}`)
  }
})

/** The first arguments of all calls of `test()` in a file, with `…` for the values of a template. */
function titlesIn (file: string): Set<string> {
  const titles = new Set<string>()
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression) && node.expression.name.text === 'test') {
      const [title] = node.arguments
      if (title !== undefined && ts.isStringLiteralLike(title)) titles.add(title.text)
      if (title !== undefined && ts.isTemplateExpression(title)) {
        titles.add([title.head, ...title.templateSpans.map(({ literal }) => literal)].map(({ text }) => text).join('…'))
      }
    }
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile(file, read(file), ts.ScriptTarget.Latest, true))
  return titles
}

t.test('each test and each command that docs/reliability.md names exists', async t => {
  const faults = await run<Array<{ faults: Array<{ fault: string, shown: Array<string | [string, string]> }> }>>(
    "import { faults } from './bench/soak/faults.mjs'\nconsole.log(JSON.stringify(faults))")
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
  for (const { fault, shown } of faults.flatMap(({ faults }) => faults)) {
    t.ok(shown.length > 0, fault)
    for (const one of shown) {
      if (typeof one === 'string') t.ok(scripts[/^npm run (\S+)/.exec(one)![1]!], one)
      else t.ok(titlesIn(one[0]).has(one[1]), `${one[0]}: ${one[1]}`)
    }
  }
})

t.test('docs/reliability.md is what the soak makes of its results and of the faults', async t => {
  const filled = await run<string>(`import { readFileSync } from 'node:fs'
    import { fill } from './bench/soak/page.mjs'
    console.log(JSON.stringify(fill(readFileSync('docs/reliability.md', 'utf8'), JSON.parse(readFileSync('bench/soak/results.json', 'utf8')))))`)
  t.equal(filled, read('docs/reliability.md'))
})
