/**
 * `npm run prove:mutations [-- --only resources]`: makes each mistake of the list in a copy of the project, and plays the
 * simulation, or runs the named test. It fails if one of them is not noticed.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { apply } from './apply'
import { mutations, type Mutation } from './list'

/** Longest time of one run, in milliseconds. A mistake may be an endless loop, which counts as noticed. */
const longest = 300_000

const root = join(__dirname, '../..')
const { values: { only, seeds } } = parseArgs({
  options: { only: { type: 'string', default: '' }, seeds: { type: 'string', default: '3000' } }
})
const copy = mkdtempSync(join(tmpdir(), 'mutations-'))
try {
  for (const name of ['lib', 'test', 'types', 'docs', 'package.json', 'tap.yml', 'tsconfig.json']) {
    cpSync(join(root, name), join(copy, name), { recursive: true })
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'))
  // What fails without a mistake shows nothing.
  const tests = [...new Set(mutations.map(({ test }) => test))]
  for (const test of only === '' ? tests : [undefined]) {
    const failure = isNoticed(test)
    if (failure !== null) throw new Error(`${test ?? 'the simulation'} fails without a mistake: ${failure}`)
  }
  const missed = mutations.filter(({ file }) => file.includes(only)).filter(mutation => !check(mutation))
  console.log(missed.length === 0 ? 'each mistake is noticed' : `${missed.length} mistakes are not noticed`)
  process.exitCode = missed.length === 0 ? 0 : 1
} finally {
  rmSync(copy, { recursive: true })
}

/** @returns whether the mistake is noticed */
function check (mutation: Mutation): boolean {
  const { file, line, becomes, test } = mutation
  const path = join(copy, 'lib', file)
  const text = readFileSync(path, 'utf8')
  writeFileSync(path, apply(text, mutation))
  const noticed = isNoticed(test)
  writeFileSync(path, text)
  const how = noticed === null ? 'NOT NOTICED' : `noticed by ${test ?? 'the simulation'} (${noticed})`
  console.log(`${file}: ${line}\n  -> ${becomes || '(nothing)'}\n  ${how}`)
  return noticed !== null
}

/** @returns the first rule or test that fails, or `null` */
function isNoticed (test: string | undefined): string | null {
  const args = test === undefined
    ? ['--import', 'tsx', 'test/simulation/main.ts', '--seeds', seeds]
    : [join(root, 'node_modules/.bin/tap'), '--disable-coverage', '--allow-incomplete-coverage', '--reporter=tap', test]
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: copy, env: { ...process.env, TAP: '' }, encoding: 'utf8', timeout: longest, maxBuffer: 2 ** 28
  })
  if (status === 0) return null
  return /^ *not ok \d+ - (.*)$/m.exec(stdout)?.[1] ?? stderr.split('\n')[0] ?? 'it does not end'
}
