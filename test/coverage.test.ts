/** `.ci/coverage` fails if the tests cover less than 95 % of the lines or branches of lib/. */
import { spawnSync } from 'node:child_process'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'

const root = join(__dirname, '..')
const sources = readdirSync(join(root, 'lib'), { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.ts')).map(file => join(root, 'lib', file))

/** Runs the script on a summary in which each of these files has 1000 lines and branches. */
function judge (t: Test, files: readonly string[], lines: number, branches: number): { status: number | null, stdout: string } {
  const summary = join(t.testdir(), 'coverage-summary.json')
  writeFileSync(summary, JSON.stringify(Object.fromEntries(files.map(file => [file, {
    lines: { total: 1_000, covered: lines }, branches: { total: 1_000, covered: branches }
  }]))))
  return spawnSync(join(root, '.ci/coverage'), [summary], { encoding: 'utf8' })
}

t.test('95 % of the lines and branches are enough', async t => {
  const { status, stdout } = judge(t, sources, 950, 950)
  t.equal(status, 0)
  t.match(stdout, /^lib +95\.0 % lines {4}95\.0 % branches$/m)
})

t.test('less than 95 % of the lines or of the branches is a failure, and the files below it are listed', async t => {
  for (const [lines, branches] of [[949, 1_000], [1_000, 949]] as const) {
    const { status, stdout } = judge(t, sources, lines, branches)
    t.equal(status, 1)
    t.match(stdout, `The ${lines < branches ? 'lines' : 'branches'} of lib/ are covered by less than 95 %`)
    t.match(stdout, /^lib\/options\.ts +\d/m)
  }
})

t.test('a file outside lib/ does not count', async t => {
  t.equal(judge(t, [...sources, join(root, 'dist/lib/index.js'), join(root, 'test/ci.test.ts')], 950, 950).status, 0)
})

t.test('a file that no test loads counts as not covered', async t => {
  const { status, stdout } = judge(t, sources.filter(file => !file.includes('/resources/') && !file.includes('/http/')), 1_000, 1_000)
  t.equal(status, 1)
  t.match(stdout, /^lib\/resources +0\.0 % lines +0\.0 % branches$/m)
})
