/** One piece of the proof: one contender in one topology, restarted under traffic. */
import { mkdtemp, rm } from 'node:fs/promises'
import { loadavg, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { codeOf, versionOf } from './versions.mjs'
import { startTraffic } from './traffic.mjs'

const services = join(dirname(fileURLToPath(import.meta.url)), 'services')

/**
 * @param {{ topology, contender: import('./contenders.mjs').Contender, database, restarts: number, rate: number,
 *   without: readonly string[], repeat: boolean, verbose: boolean, signal: AbortSignal }} piece `signal` ends it early
 */
export async function prove ({ topology, contender, database, restarts, rate, without, repeat, verbose, signal }) {
  const directory = await mkdtemp(join(tmpdir(), 'rolling-'))
  const orders = await database.open()
  const log = verbose ? text => process.stderr.write(text) : undefined
  const script = join(services, `${contender.service}.mjs`)
  const env = { DATABASE_URL: database.url, ORDERS_TABLE: orders.table, NODE_ENV: 'production', ...contender.env }
  const began = performance.now()
  const load = [loadavg()[0]]
  let place = null
  let traffic = null
  try {
    place = await topology.start({ script, env, directory, log, note })
    traffic = startTraffic({
      url: place.url,
      rate,
      without,
      repeat,
      onFailure: note
    })
    await sleep(1_000)
    const ends = await unlessAborted(place.restart(restarts), signal)
    await sleep(1_000)
    await traffic.stop()
    load.push(loadavg()[0])
    const { counts } = traffic
    return {
      topology: topology.name,
      topologyVersion: topology.version(),
      contender: contender.name,
      version: versionOf(contender.package),
      code: codeOf(contender.package),
      restarts: ends.length,
      rate,
      requests: counts.requests,
      repeated: counts.repeated,
      failed: [...counts.failures.values()].reduce((sum, count) => sum + count, 0),
      failures: Object.fromEntries([...counts.failures].sort(([, a], [, b]) => b - a)),
      orders: counts.orders.size,
      lostOrders: await orders.missing(counts.orders),
      webSocketsClosed: counts.webSocketsClosed,
      medianMs: Math.round(ends.map(({ ms }) => ms).sort((a, b) => a - b)[Math.floor(ends.length / 2)]),
      exits: tally(ends.map(({ how }) => how)),
      load: Math.round(load.reduce((sum, each) => sum + each, 0) / load.length * 10) / 10
    }
  } finally {
    await traffic?.stop()
    await place?.stop()
    await orders.drop()
    await rm(directory, { recursive: true, force: true, maxRetries: 3 })
  }

  /** Writes a line with a time, so that each loss can be assigned to a restart. */
  function note (what) {
    log?.(`${Math.round(performance.now() - began)} ms: ${what}\n`)
  }
}

function unlessAborted (promise, signal) {
  return Promise.race([promise, new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason)
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })])
}

function tally (words) {
  const counts = {}
  for (const word of words) counts[word] = (counts[word] ?? 0) + 1
  return counts
}
