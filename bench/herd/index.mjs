/**
 * Measures the load on the remaining replicas when one replica shuts down: with 10 000 real connections on this
 * machine, and with 1 000 000 clients of 100 replicas in a simulation. Writes its tables into docs/herd.md.
 *
 *   npm run bench:herd                                both, about a minute and a half
 *   npm run bench:herd -- --connections 1000 --no-write
 *   npm run bench:herd -- --only simulation
 */
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { measure } from './crowd.mjs'
import { simulate } from './simulation.mjs'

const page = fileURLToPath(new URL('../../docs/herd.md', import.meta.url))
const { values: options } = parseArgs({
  options: {
    only: { type: 'string' },
    connections: { type: 'string', default: '10000' },
    seed: { type: 'string', default: '1' },
    'no-write': { type: 'boolean', default: false }
  }
})
if (!existsSync(new URL('../../dist/lib/index.js', import.meta.url))) {
  console.error('run `npm run build` first')
  process.exit(2)
}

if (options.only !== 'simulation') await real(Number(options.connections))
if (options.only !== 'real') await simulated(Number(options.seed))

async function real (connections) {
  const runs = [
    { name: 'reconnects, no lame-duck', env: { DELAY_MS: '0' } },
    { name: 'reconnects, lame-duck 0 to 2 s, the default of a plain process', env: { DELAY_MS: '{"min":0,"max":2000,"quiet":500}' } },
    { name: 'reconnects, lame-duck 5 to 15 s, the default on Kubernetes', env: { DELAY_MS: '{"min":5000,"max":15000,"quiet":1000}' } },
    { name: 'reconnects, lame-duck 5 s', env: { DELAY_MS: '5000' } },
    { name: 'reconnects, lame-duck 20 s', env: { DELAY_MS: '20000' } },
    { name: 'retries, no lame-duck, `retryAfter: 5`', env: { DELAY_MS: '0', RETRY_AFTER: '5' }, stubborn: true },
    { name: 'retries, no lame-duck, `retryAfter: [1, 9]`', env: { DELAY_MS: '0', RETRY_AFTER: '1-9' }, stubborn: true }
  ]
  const lines = [
    `${connections.toLocaleString('en')} connections, Node.js ${process.versions.node}.`,
    '',
    '| connections to the two remaining replicas | arrivals | within | peak in 100 ms | median in 100 ms |',
    '| --- | ---: | ---: | ---: | ---: |'
  ]
  for (const run of runs) {
    const { arrivals, spanMs, peak, median } = await measure({ connections, ...run })
    const line = `| ${run.name} | ${arrivals} | ${(spanMs / 1_000).toFixed(1)} s | ${peak} | ${median} |`
    console.log(line)
    lines.push(line)
  }
  await write('real', lines)
}

async function simulated (seed) {
  const runs = [
    { name: 'no lame-duck, `retryAfter: 10`', delay: 0, spread: false, retryAfter: [10, 10] },
    { name: 'no lame-duck, `retryAfter: [5, 60]`', delay: 0, spread: false, retryAfter: [5, 60] },
    { name: 'lame-duck 10 s, all closed at its end', delay: 10, spread: false, retryAfter: [10, 10] },
    { name: 'lame-duck 10 s, spread', delay: 10, spread: true, retryAfter: [10, 10] },
    { name: 'lame-duck 0 to 2 s, spread, the default of a plain process', delay: { min: 0, max: 2, quiet: 0.5 }, spread: true, retryAfter: [10, 10] },
    { name: 'lame-duck 5 to 15 s, spread, the default on Kubernetes', delay: { min: 5, max: 15, quiet: 1 }, spread: true, retryAfter: [10, 10] },
    { name: 'lame-duck 30 s, spread', delay: 30, spread: true, retryAfter: [10, 10] },
    { name: 'lame-duck 30 s, spread, 1 replica at a time', delay: 30, spread: true, retryAfter: [10, 10], atOnce: 1 }
  ]
  const lines = [
    `Seed ${seed}. 1,000,000 clients, 100 replicas, 5 replaced at a time unless the row names another number.`,
    '',
    '| update | duration | connects | peak in 100 ms, fleet | peak in 100 ms, one replica | 503s | peak of retries in 100 ms, fleet | fullest replica, mean = 1 |',
    '| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |'
  ]
  for (const { name, ...model } of runs) {
    const result = simulate({ seed, clients: 1_000_000, replicas: 100, atOnce: 5, ...model })
    const n = value => Math.round(value).toLocaleString('en')
    const line = `| ${name} | ${n(result.seconds)} s | ${n(result.connects)} | ${n(result.peakFleet)} | ${n(result.peakReplica)} | ${n(result.refused)} | ${n(result.peakRetries)} | ${result.fullest.toFixed(2)} |`
    console.log(line)
    lines.push(line)
  }
  await write('simulation', lines)
}

async function write (name, lines) {
  if (options['no-write']) return
  const begin = `<!-- ${name}: written by \`npm run bench:herd\` -->`
  const end = `<!-- /${name} -->`
  const text = await readFile(page, 'utf8')
  const [before, rest] = text.split(begin)
  const after = rest?.split(end)[1]
  if (after === undefined) throw new Error(`${page} has no place for the results: ${begin} … ${end}`)
  await writeFile(page, `${before}${begin}\n\n${lines.join('\n')}\n\n${end}${after}`)
}
