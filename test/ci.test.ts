/** The list of checks is .ci/run. The workflows call it, their actions are pinned, and the tests use no network. */
import { spawnSync } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'

const root = join(__dirname, '..')
const read = (file: string): string => readFileSync(join(root, file), 'utf8')

interface Job {
  readonly 'timeout-minutes'?: number
  readonly permissions?: Readonly<Record<string, string>>
  readonly strategy?: { readonly matrix: { readonly include?: ReadonlyArray<{ readonly steps?: string }> } }
  readonly steps: ReadonlyArray<{ readonly run?: string, readonly uses?: string }>
}

interface Workflow {
  readonly permissions?: Readonly<Record<string, string>>
  readonly concurrency?: object
  readonly jobs: Readonly<Record<string, Job>>
}

const folder = '.github/workflows'
const workflows = readdirSync(join(root, folder)).map(file => ({ file, text: read(join(folder, file)), ...parse(read(join(folder, file))) as Workflow }))
const { jobs } = workflows.find(({ file }) => file === 'ci.yml')!

t.test('every job of ci.yml runs .ci/run and no other check', async t => {
  for (const [name, { steps }] of Object.entries(jobs)) {
    const commands = steps.flatMap(({ run }) => run ?? [])
    t.equal(commands.filter(command => command.startsWith('.ci/run')).length, 1, name)
    t.notOk(commands.some(command => /\b(npm|npx|node|tap|eslint|tsc)\b/.test(command)), name)
  }
})

t.test('.ci/run has every step that a job runs, and rejects an unknown one', async t => {
  const used = Object.values(jobs).flatMap(({ strategy, steps }) => [
    ...strategy?.matrix.include?.flatMap(({ steps }) => steps?.split(' ') ?? []) ?? [],
    ...steps.flatMap(({ run }) => /^\.ci\/run ([a-z ]+)$/.exec(run ?? '')?.[1]!.split(' ') ?? [])
  ])
  t.ok(used.length > 0)
  for (const name of new Set(used)) t.match(read('.ci/run'), `\nif step ${name}; then\n`)
  const { status, stdout, stderr } = spawnSync(join(root, '.ci/run'), ['build', 'tets'], { encoding: 'utf8' })
  t.strictSame([status, stdout], [2, ''])
  t.match(stderr, "Unknown step 'tets'. Steps: install services build lint types package guard tests demo")
})

t.test('every action is pinned by its commit, with its version in a comment', async t => {
  for (const { file, text, jobs } of workflows) {
    const used = Object.values(jobs).flatMap(({ steps }) => steps.flatMap(({ uses }) => uses ?? []))
    const pinned = [...text.matchAll(/uses: (\S+@[0-9a-f]{40}) # v\d+\.\d+\.\d+$/mg)].map(([, action]) => action)
    t.ok(used.length > 0)
    t.strictSame(used, pinned, file)
  }
})

t.test('workflows only read the code, and only CodeQL writes its findings', async t => {
  for (const { file, permissions, concurrency, jobs } of workflows) {
    t.strictSame(permissions, { contents: 'read' }, file)
    t.ok(concurrency, file)
    for (const [name, job] of Object.entries(jobs)) {
      t.strictSame(job.permissions, file === 'codeql.yml' ? { contents: 'read', 'security-events': 'write' } : undefined, name)
      t.ok(job['timeout-minutes']! <= 60, name)
    }
  }
})

t.test('tap uses its built-in plugins only, because it fetches others from the network at the first run', async t => {
  const { tap } = JSON.parse(read('package.json'))
  t.strictSame(tap, { extends: './tap.yml' })
  t.notOk('plugin' in parse(read('tap.yml')))
})
