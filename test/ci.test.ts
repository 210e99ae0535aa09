/** The list of checks is .ci/run. The workflows call it, their actions are pinned, and the tests use no network. */
import { spawnSync } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { parseArguments } from '../lib/cli/drill/arguments'

const root = join(__dirname, '..')
const read = (file: string): string => readFileSync(join(root, file), 'utf8')

interface Job {
  readonly 'timeout-minutes'?: number
  readonly permissions?: Readonly<Record<string, string>>
  readonly strategy?: { readonly matrix: { readonly include?: ReadonlyArray<{ readonly steps?: string }> } }
  readonly needs?: string
  readonly uses?: string
  readonly steps: ReadonlyArray<{ readonly run?: string, readonly uses?: string }>
}

interface Workflow {
  readonly permissions?: Readonly<Record<string, string>>
  readonly concurrency?: object
  readonly jobs: Readonly<Record<string, Job>>
}

const workflowsIn = (folder: string): Array<Workflow & { readonly file: string, readonly text: string }> => readdirSync(join(root, folder))
  .map(file => ({ file, text: read(join(folder, file)), ...parse(read(join(folder, file))) as Workflow }))
const workflows = workflowsIn('.github/workflows')
const deployWorkflows = workflowsIn('deploy/github-actions')
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
  for (const { file, text, jobs } of [...workflows, ...deployWorkflows]) {
    const used = Object.values(jobs).flatMap(({ steps }) => steps?.flatMap(({ uses }) => uses ?? []) ?? [])
    const pinned = [...text.matchAll(/uses: (\S+@[0-9a-f]{40}) # v\d+\.\d+\.\d+$/mg)].map(([, action]) => action)
    t.ok(used.length > 0)
    t.strictSame(used, pinned, file)
  }
})

/** The permissions of jobs that do more than read the code. */
const writers: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'codeql.yml analyze': { contents: 'read', 'security-events': 'write' },
  'release.yml publish': { contents: 'write', 'id-token': 'write' }
}

t.test('workflows only read the code, except for the findings of CodeQL and the release', async t => {
  for (const { file, permissions, concurrency, jobs } of workflows) {
    t.strictSame(permissions, { contents: 'read' }, file)
    t.ok(concurrency, file)
    for (const [name, job] of Object.entries(jobs)) {
      t.strictSame(job.permissions, writers[`${file} ${name}`], name)
      t.ok(job['timeout-minutes']! <= 60, name)
    }
  }
})

t.test('tap uses its built-in plugins only, because it fetches others from the network at the first run', async t => {
  const { tap } = JSON.parse(read('package.json'))
  t.strictSame(tap, { extends: './tap.yml' })
  t.notOk('plugin' in parse(read('tap.yml')))
})

t.test('each deployment needs the image, which needs the tests, the budget and the drill', async t => {
  const image = deployWorkflows.find(({ file }) => file === 'image.yml')!
  const commands = image.jobs['test']!.steps.map(({ run }) => run ?? '')
  for (const command of ['npm test', 'npx fastify-shutdown budget ', 'npx fastify-shutdown drill ']) {
    t.ok(commands.some(each => each.startsWith(command)), command)
  }
  t.equal(image.jobs['image']!.needs, 'test')
  for (const { file, jobs } of deployWorkflows.filter(({ file }) => file !== 'image.yml')) {
    t.equal(jobs['image']!.uses, './.github/workflows/image.yml', file)
    t.equal(jobs['deploy']!.needs, 'image', file)
  }
})

t.test('the drill in the workflow is one that the command accepts', async t => {
  const line = deployWorkflows.find(({ file }) => file === 'image.yml')!.text.split('\n').find(each => each.includes('fastify-shutdown drill'))!
  const args = line.split('drill ')[1]!.replace('"$GITHUB_STEP_SUMMARY"', 'summary.md').split(' ')
  const options = parseArguments(args)
  t.strictSame([options.restarts, options.junit, options.markdown], [5, 'drill.xml', 'summary.md'])
})

t.test('a release has the section of its version in the CHANGELOG as text, and fails without one', async t => {
  const changelog = join(t.testdir({ 'CHANGELOG.md': '# Changelog\n\n## [Unreleased]\n\nsoon\n\n## [0.1.0] - 2026-01-01\n\n### Added\n\n- a thing\n\n## [0.0.1]\n\nold\n' }), 'CHANGELOG.md')
  const notes = (version: string, file = changelog): { status: number | null, stdout: string, stderr: string } =>
    spawnSync(join(root, '.ci/release-notes'), [version], { encoding: 'utf8', env: { ...process.env, CHANGELOG: file } })
  const { version } = JSON.parse(read('package.json'))
  t.equal(version, '0.1.0', 'update the fixture')
  t.equal(notes(version).stdout, '### Added\n\n- a thing\n')
  t.match(notes('9.9.9'), { status: 1, stderr: 'package.json has version' })
  const empty = join(t.testdir({ 'empty.md': '# Changelog\n' }), 'empty.md')
  t.match(notes(version, empty), { status: 1, stderr: 'has no section' })
})
