/**
 * The proof that disconnects leave nothing behind. A server gets the same traffic twice, as bare Fastify and with the
 * plugin: requests over HTTP/1.1, HTTP/2 and WebSockets whose clients leave at every moment and in every way. Then it
 * counts what is in flight, compares the heap and the stalls of the event loop with bare Fastify's, and shuts the
 * plugin's server down.
 *
 *   npm run prove:disconnects                        300,000 requests, several minutes
 *   npm run prove:disconnects -- --requests 6000     shorter
 *   npm run prove:disconnects -- --seed 7            other traffic
 *
 * Ends with 1 if a promise does not hold.
 */
import { existsSync, readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { promises } from './promises.mjs'
import { limitMs, soak } from './run.mjs'

/** Routes that the output names. */
const mostRoutes = 20

const { requests, seed } = readArguments()
if (!existsSync(new URL('../../dist/lib/index.js', import.meta.url))) stop('run `npm run build` first')

const fastify = JSON.parse(readFileSync(new URL('../../node_modules/fastify/package.json', import.meta.url), 'utf8')).version
console.log(`${n(requests)} requests, seed ${seed}, Node.js ${process.versions.node}, Fastify ${fastify}, \`timeouts.requests\` ${n(limitMs)} ms.\n`)

const bare = await run('bare Fastify', false)
const ours = await run('fastify-shutdown', true)
const kept = promises(bare, ours)

print(traffic(ours))
print(comparison())
print(servers(ours))
printLeft(ours)
print([['promise', 'limit', 'measured', ''], ...kept.map(({ what, limit, value, holds }) => [what, limit, value, holds ? 'holds' : 'BROKEN'])])
const broken = kept.filter(({ holds }) => !holds).length
console.log(broken === 0 ? 'All promises hold.' : `${broken} of ${kept.length} promises are broken.`)
process.exit(broken === 0 ? 0 : 1)

async function run (name, withPlugin) {
  try {
    return await soak({ withPlugin, seed, requests })
  } catch (error) {
    console.log(`${name}: the soak did not come to its end. ${error.message}`)
    process.exit(1)
  }
}

function traffic ({ waves }) {
  const total = counts => waves.reduce((sums, wave) => {
    for (const [key, count] of Object.entries(wave[counts])) sums[key] = (sums[key] ?? 0) + count
    return sums
  }, {})
  const list = counts => Object.entries(total(counts)).sort(([, a], [, b]) => b - a).map(([key, count]) => `${key} ${n(count)}`).join(', ')
  return [
    ['traffic', 'requests'],
    ['by connection', list('shapes')],
    ['by moment', list('moments')],
    ['by way', list('ways')]
  ]
}

function comparison () {
  const row = (name, of) => [name, of(bare), of(ours)]
  return [
    ['', 'bare Fastify', 'fastify-shutdown'],
    row('requests that the clients sent', ({ waves }) => n(waves.reduce((sum, { requests }) => sum + requests, 0))),
    row('requests that Node parsed', ({ counts }) => n(counts.servers.reduce((sum, { received }) => sum + received, 0))),
    row('visits of clients', ({ waves }) => n(waves.reduce((sum, { visits }) => sum + visits, 0))),
    row('seconds of traffic', ({ waves }) => waves.reduce((sum, { seconds }) => sum + seconds, 0).toFixed(1)),
    ...bare.waves.map(({ name }, i) => row(`CPU time of the server, ${name}, s`, ({ waves }) => (waves[i].cpuMs / 1_000).toFixed(1))),
    ...bare.waves.map(({ name }, i) => row(`longest stall, ${name}, ms`, ({ waves }) => waves[i].stallMs.toFixed(0))),
    row('HTTP/2 sessions that Node kept open after their client', ({ waves }) => n(waves.reduce((sum, { severed }) => sum + severed, 0))),
    row('heap after collection, MB', ({ heap }) => (heap.heapUsed / 1e6).toFixed(1)),
    row('buffers outside the heap, MB', ({ heap }) => (heap.external / 1e6).toFixed(1)),
    row('resident memory, MB', ({ heap }) => (heap.rss / 1e6).toFixed(0))
  ]
}

function servers ({ counts }) {
  return [
    ['server', 'received', 'completed', 'aborted', 'rejected', 'cut', 'in flight', 'WebSockets'],
    ...counts.servers.map(({ name, stats, active }) => [
      name, n(stats.received), n(stats.completed), n(stats.aborted), n(stats.rejected), n(stats.cut), n(active.requests + active.streams), n(active.webSockets)
    ])
  ]
}

/** Only where something is left: these routes show the fault. */
function printLeft ({ waves }) {
  for (const { name, leftBy } of waves) {
    const rows = Object.entries(leftBy).sort(([, a], [, b]) => b - a).map(([route, count]) => [route, n(count)])
    if (rows.length > mostRoutes) rows.splice(mostRoutes, Infinity, [`${rows.length - mostRoutes} more routes`, ''])
    if (rows.length > 0) print([[`left in flight after "${name}"`, 'requests'], ...rows])
  }
}

function print (rows) {
  const [columns, ...others] = rows
  const line = cells => `| ${cells.join(' | ')} |`
  console.log([line(columns), line(columns.map((_, i) => i === 0 ? '---' : '---:')), ...others.map(line), ''].join('\n'))
}

function n (number) {
  return number.toLocaleString('en')
}

function readArguments () {
  try {
    const { values } = parseArgs({ options: { requests: { type: 'string', default: '300000' }, seed: { type: 'string', default: '1' } } })
    const [requests, seed] = [values.requests, values.seed].map(Number)
    if (!Number.isInteger(requests) || requests < 1_000) stop(`--requests is a whole number from 1000, not '${values.requests}'.`)
    if (!Number.isInteger(seed)) stop(`--seed is a whole number, not '${values.seed}'.`)
    return { requests, seed }
  } catch (error) {
    stop(error.message)
  }
}

function stop (message) {
  console.error(message)
  process.exit(2)
}
