/**
 * `npm run bench [-- part …] [--rounds n] [--only contender,…] [--out folder] [--quick] [--resume]`
 *
 * Runs all parts, or the named ones, and writes `docs/benchmarks.md`, its charts and the figures behind them. Parts
 * that are not measured keep their results. `--quick` only checks that everything runs: its figures have no meaning.
 * `--only` leaves out contenders. With one of these two, the page is not for publication and goes to a temporary
 * folder, or to `--out`. `--resume` leaves out the parts that are already measured at this revision.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { draw } from './support/chart.mjs'
import { everybody } from './support/contenders.mjs'
import { describeMachine } from './support/machine.mjs'
import { page, verdictOf } from './support/markdown.mjs'

const parts = ['running', 'rejection', 'tail', 'idle', 'restarts', 'teardown', 'memory', 'start', 'stall']

const { values: options, positionals } = readArguments()
const only = options.only?.split(',') ?? []
const rounds = options.rounds === undefined ? undefined : Number(options.rounds)
refuseUnknown('part', positionals, parts)
refuseUnknown('contender', only, everybody)
if (rounds !== undefined && !(Number.isInteger(rounds) && rounds > 0)) stop(`--rounds is a whole number above 0, not '${options.rounds}'.`)

const here = fileURLToPath(new URL('.', import.meta.url))
if (!existsSync(join(here, 'node_modules'))) execFileSync('npm', ['ci', '--prefix', here], { stdio: 'inherit' })

const docs = options.out ?? (options.quick || only.length > 0 ? join(tmpdir(), 'fastify-shutdown-bench') : join(here, '..', 'docs'))
const folder = join(docs, 'benchmarks')
mkdirSync(folder, { recursive: true })
const file = join(folder, 'results.json')
const results = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {}
const began = performance.now()

for (const part of parts) {
  if (positionals.length > 0 && !positionals.includes(part)) continue
  if (options.resume && isMeasured(results[part])) continue
  const partBegan = performance.now()
  const { title, measure } = await import(`./${part}.mjs`)
  console.log(`${title} …`)
  const machine = describeMachine()
  const result = await measure({
    quick: options.quick,
    ...(rounds !== undefined && { rounds }),
    only,
    log: word => { if (process.stdout.isTTY) console.log(`  ${word}`) }
  })
  const seconds = Math.round((performance.now() - partBegan) / 1_000)
  results[part] = { title, machine, quick: options.quick, seconds, ...result }
  for (const target of result.targets) console.log(`  ${verdictOf(target, options.quick)}: ${target.what}: ${Number.isFinite(target.value) ? target.value.toFixed(3) : 'no reading'}`)
  console.log(`  ${seconds} s`)
  // After each part, so that a failure in a later part loses only that part.
  write()
}
console.log(`${Math.round((performance.now() - began) / 1_000)} s; see ${join(docs, 'benchmarks.md')}`)

/** Whether a part is measured at the current revision, without changes that are not committed. */
function isMeasured (result) {
  const { revision } = describeMachine()
  return result !== undefined && !result.quick && result.machine.revision === revision && /^[0-9a-f]+$/.test(revision)
}

function write () {
  // The page has the order of `parts`, not that of the measurements.
  const ordered = Object.fromEntries(parts.filter(part => part in results).map(part => [part, results[part]]))
  writeFileSync(file, `${JSON.stringify(ordered, (key, value) => typeof value === 'number' ? Number(value.toPrecision(4)) : value, 1)}\n`)
  const read = JSON.parse(readFileSync(file, 'utf8'))
  for (const { charts } of Object.values(read)) for (const chart of charts) writeFileSync(join(folder, `${chart.file}.svg`), draw(chart))
  writeFileSync(join(docs, 'benchmarks.md'), page(read))
}

function readArguments () {
  try {
    return parseArgs({
      allowPositionals: true,
      options: { rounds: { type: 'string' }, only: { type: 'string' }, out: { type: 'string' }, quick: { type: 'boolean', default: false }, resume: { type: 'boolean', default: false } }
    })
  } catch (error) {
    stop(error.message)
  }
}

function refuseUnknown (what, words, known) {
  const unknown = words.filter(word => !known.includes(word))
  if (unknown.length > 0) stop(`Unknown ${what} '${unknown.join("', '")}'. Known: ${known.join(', ')}.`)
}

/** Prints a message without a stack, because the mistake is in the arguments. */
function stop (message) {
  console.error(message)
  process.exit(1)
}
