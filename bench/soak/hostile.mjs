/**
 * The second part of the soak: hostile clients against a server that is not restarted, as bare Fastify and with the
 * plugin. The traffic is that of `npm run prove:disconnects`, in several waves, and the memory is read after each wave.
 */
import { loadavg } from 'node:os'
import { promises } from '../disconnects/promises.mjs'
import { soak } from '../disconnects/run.mjs'

/** Waves of handlers that end. One wave of handlers that never end comes after them. */
const rounds = 10

export async function soakHostile ({ requests, seed, onProgress }) {
  const load = []
  const run = withPlugin => soak({
    withPlugin,
    seed,
    requests,
    rounds,
    onWave ({ name, requests, seconds, left, heap }) {
      load.push(loadavg()[0])
      onProgress(`${withPlugin ? 'fastify-shutdown' : 'bare Fastify'}, ${name}: ${requests} requests in ${Math.round(seconds)} s, ${left} in flight, ${((heap.heapUsed + heap.external) / 1e6).toFixed(1)} MB, load ${load.at(-1).toFixed(1)}`)
    }
  })
  const bare = await run(false)
  const ours = await run(true)
  const result = {
    requests,
    seed,
    load: { lowest: Math.min(...load), highest: Math.max(...load), mean: load.reduce((a, b) => a + b, 0) / load.length },
    bare: thin(bare),
    ours: thin(ours)
  }
  return { result, verdict: promises(bare, ours), bare, ours }
}

function thin ({ waves, counts, ended }) {
  const total = key => waves.reduce((sums, wave) => {
    for (const [word, count] of Object.entries(wave[key])) sums[word] = (sums[word] ?? 0) + count
    return sums
  }, {})
  return {
    sent: waves.reduce((sum, { requests }) => sum + requests, 0),
    visits: waves.reduce((sum, { visits }) => sum + visits, 0),
    seconds: Math.round(waves.reduce((sum, { seconds }) => sum + seconds, 0)),
    shapes: total('shapes'),
    moments: total('moments'),
    ways: total('ways'),
    waves: waves.map(({ name, heap, left, cpuMs, stallMs }) => ({
      name, memoryMb: (heap.heapUsed + heap.external) / 1e6, residentMb: heap.rss / 1e6, left, cpuMs: Math.round(cpuMs), stallMs: Math.round(stallMs)
    })),
    servers: counts.servers,
    goneMs: ended === null ? null : Math.round(ended.goneMs)
  }
}
