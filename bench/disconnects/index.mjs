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
 * The exit code is 1 if a promise does not hold.
 */
import { existsSync, readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { promises } from './promises.mjs'
import { limitMs, soak } from './run.mjs'
import { n, printResults } from './tables.mjs'

const { requests, seed } = readArguments()
if (!existsSync(new URL('../../dist/lib/index.js', import.meta.url))) stop('run `npm run build` first')

const fastify = JSON.parse(readFileSync(new URL('../../node_modules/fastify/package.json', import.meta.url), 'utf8')).version
console.log(`${n(requests)} requests, seed ${seed}, Node.js ${process.versions.node}, Fastify ${fastify}, \`timeouts.requests\` ${n(limitMs)} ms.\n`)

const bare = await run('bare Fastify', false)
const ours = await run('fastify-shutdown', true)
const kept = promises(bare, ours)

printResults(bare, ours, kept)
const broken = kept.filter(({ holds }) => !holds).length
console.log(broken === 0 ? 'All promises hold.' : `${broken} of ${kept.length} promises are broken.`)
process.exit(broken === 0 ? 0 : 1)

async function run (name, withPlugin) {
  try {
    return await soak({ withPlugin, seed, requests })
  } catch (error) {
    console.log(`${name}: the soak did not complete. ${error.message}`)
    process.exit(1)
  }
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
