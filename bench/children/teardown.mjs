/** One graph, torn down by ours, by the counting executor and as hooks of Fastify's, in turn. */
import { loadFastify, loadShutdown, monotonic } from '../support/app.mjs'
import { countingTeardown } from '../support/counting.mjs'
import { median } from '../support/statistics.mjs'

const { shape, count, waiting = false, repeats = 0 } = JSON.parse(process.argv[2])
const { teardown } = loadShutdown()
const levels = 50
const random = seeded(7)

const edges = {
  wide: () => [],
  chain: i => i === 0 ? [] : [i - 1],
  // Up to three earlier resources.
  random: i => i === 0 ? [] : [...new Set(Array.from({ length: 1 + Math.floor(random() * 3) }, () => Math.floor(random() * i)))],
  // Levels of the same width; each uses two of the level below.
  ladder: i => {
    const width = count / levels
    const level = Math.floor(i / width)
    return level === 0 ? [] : [(level - 1) * width + i % width, (level - 1) * width + (i + 1) % width]
  }
}
const uses = Array.from({ length: count }, (_, i) => edges[shape](i))
const times = Array.from({ length: count }, () => shape === 'random' ? 5 + Math.floor(random() * 11) : 10)

console.log(JSON.stringify(waiting ? await waits() : await atOnce()))

async function atOnce () {
  const resources = graph(() => async () => {})
  const cold = await timed(teardown, resources) / await timed(countingTeardown, resources)
  const ours = []
  const counting = []
  const fastify = []
  for (let i = 0; i < repeats; i++) {
    ours.push(await timed(teardown, resources))
    counting.push(await timed(countingTeardown, resources))
    // Fastify runs its hooks one after another, so their time is the same for all graphs, and few samples suffice. The
    // first two runs are a warm-up and are not counted.
    const closed = i < 2 || i >= repeats - 5 ? await hooks() : null
    if (i >= repeats - 5) fastify.push(closed)
  }
  return { cold, warm: median(ours) / median(counting), fastify: median(ours) / median(fastify) }
}

async function waits () {
  const resources = graph(i => () => new Promise(resolve => setTimeout(resolve, times[i])))
  await timed(teardown, graph(() => async () => {}))
  const chain = await timed(() => inARow(longestChain()))
  return { ours: await timed(teardown, resources) / chain, counting: await timed(countingTeardown, resources) / chain }
}

function graph (closeOf) {
  const resources = {}
  for (let i = 0; i < count; i++) resources[`resource-${i}`] = { dependsOn: uses[i].map(j => `resource-${j}`), close: closeOf(i) }
  return resources
}

/**
 * The times of the chain that no executor can be faster than. A resource's number is above those of all that it uses.
 */
function longestChain () {
  const length = new Array(count).fill(0)
  const next = new Array(count).fill(-1)
  let top = 0
  for (let i = 0; i < count; i++) {
    for (const j of uses[i]) if (next[i] === -1 || length[j] > length[next[i]]) next[i] = j
    length[i] = times[i] + (next[i] === -1 ? 0 : length[next[i]])
    if (length[i] > length[top]) top = i
  }
  const chain = []
  for (let i = top; i !== -1; i = next[i]) chain.push(times[i])
  return chain
}

async function inARow (chain) {
  for (const ms of chain) await new Promise(resolve => setTimeout(resolve, ms))
}

async function hooks () {
  const app = loadFastify()({ logger: false })
  for (let i = 0; i < count; i++) app.addHook('onClose', async () => {})
  await app.ready()
  return await timed(() => app.close())
}

async function timed (work, argument) {
  // Without this turn, the work of the previous one would still run.
  await new Promise(resolve => setImmediate(resolve))
  const began = monotonic()
  await work(argument)
  return monotonic() - began
}

/** The same graph in every process: mulberry32. */
function seeded (state) {
  return () => {
    state = (state + 0x6D2B79F5) | 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
