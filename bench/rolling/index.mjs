/**
 * The rolling-restart proof. The same service restarts again and again under every contender while clients send
 * requests: behind nginx, HAProxy and kube-proxy's nftables, and without a proxy under PM2 and node:cluster. Counts the failures that the
 * clients see and the acknowledged orders that are missing in the database, and writes the table into
 * docs/rolling-restarts.md.
 *
 *   npm run prove:rolling                                         everything, 20 restarts each
 *   npm run prove:rolling -- --quick                              3 restarts each, no table
 *   npm run prove:rolling -- --topology nginx,pm2 --contender ours,defaults
 *
 * The exit code is 1 if a run of this package with a lame-duck lost anything.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { contenders } from './contenders.mjs'
import { openDatabase } from './orders.mjs'
import { describe, record, versionOf } from './table.mjs'
import { apache } from './topologies/apache.mjs'
import { caddy } from './topologies/caddy.mjs'
import { cluster } from './topologies/cluster.mjs'
import { haproxy } from './topologies/haproxy.mjs'
import { kubeProxy } from './topologies/kube-proxy.mjs'
import { nginx } from './topologies/nginx.mjs'
import { pm2 } from './topologies/pm2.mjs'
import { clientsFirst } from './topologies/processes.mjs'
import { startTraffic } from './traffic.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const topologies = { nginx, haproxy, caddy, apache, 'kube-proxy': kubeProxy, pm2, cluster }

const { values: options } = parseArgs({
  options: {
    topology: { type: 'string', default: Object.keys(topologies).join(',') },
    /** Their keys in contenders.mjs. */
    contender: { type: 'string', default: '' },
    /** Also the peers with a delay of their own. */
    all: { type: 'boolean', default: false },
    restarts: { type: 'string', default: '20' },
    quick: { type: 'boolean', default: false },
    /** Requests per second. */
    rate: { type: 'string', default: '200' },
    /** Kinds of traffic to leave out: get, agent, slow, post, order, upload, stream, websocket. */
    without: { type: 'string', default: '' },
    'no-write': { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false }
  }
})

/** An interrupted run stops everything that it has started. */
const interrupted = new AbortController()
const restarts = options.quick ? 3 : Number(options.restarts)
const without = options.without.split(',').filter(Boolean)
const write = !options.quick && !options['no-write'] && without.length === 0
const wanted = options.contender.split(',').filter(Boolean)
const chosen = wanted.length === 0
  ? contenders.filter(({ extra }) => options.all || !extra)
  : wanted.map(word => contenders.find(({ key }) => key === word) ?? stop(`'${word}' is not a contender: ${contenders.map(({ key }) => key).join(', ')}`))
const places = options.topology.split(',').map(key => topologies[key] ?? stop(`'${key}' is not a topology: ${Object.keys(topologies).join(', ')}`))

if (!existsSync(join(here, '../../dist/lib/index.js'))) stop('run `npm run build` first')
if (!existsSync(join(here, 'node_modules'))) {
  execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: here, stdio: 'inherit' })
}

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => { interrupted.abort() })
clientsFirst()
const database = await openDatabase()
let failed = false
try {
  for (const topology of places) {
    if (topology.missing !== null) {
      console.log(`${topology.name}: left out, install ${topology.missing}`)
      if (process.env.REQUIRE_SERVICES === '1') failed = true
      continue
    }
    const namespace = topology.enter?.([process.argv[1], ...process.argv.slice(2), '--topology', keyOf(topology)])
    if (namespace != null) {
      const { status } = spawnSync(namespace.command, namespace.args, { stdio: 'inherit', env: { ...process.env, ...namespace.env } })
      if (status !== 0) failed = true
      continue
    }
    for (const contender of chosen) {
      const result = await prove(topology, contender)
      console.log(describe(result))
      if (contender.expectsNone?.(keyOf(topology)) && (result.failed > 0 || result.lostOrders > 0)) failed = true
      if (write) await record(result, { postgres: database.version })
    }
  }
} finally {
  await database.stop()
}
process.exit(failed ? 1 : 0)

async function prove (topology, contender) {
  const directory = await mkdtemp(join(tmpdir(), 'rolling-'))
  const orders = await database.open()
  const log = options.verbose ? text => process.stderr.write(text) : undefined
  const script = join(here, 'services', `${contender.service}.mjs`)
  const env = { DATABASE_URL: database.url, ORDERS_TABLE: orders.table, NODE_ENV: 'production', ...contender.env }
  let place = null
  let traffic = null
  try {
    place = await topology.start({ script, env, directory, log })
    const began = performance.now()
    const onFailure = what => { if (options.verbose) process.stderr.write(`${Math.round(performance.now() - began)} ms: ${what}\n`) }
    traffic = startTraffic({ url: place.url, rate: Number(options.rate), without, onFailure })
    await sleep(1_000)
    const ends = await unlessInterrupted(place.restart(restarts))
    await sleep(1_000)
    await traffic.stop()
    const { counts } = traffic
    return {
      topology: topology.name,
      topologyVersion: topology.version(),
      contender: contender.name,
      version: versionOf(contender.package, here),
      restarts: ends.length,
      requests: counts.requests,
      failed: [...counts.failures.values()].reduce((sum, count) => sum + count, 0),
      failures: Object.fromEntries([...counts.failures].sort(([, a], [, b]) => b - a)),
      orders: counts.orders.size,
      lostOrders: await orders.missing(counts.orders),
      webSocketsClosed: counts.webSocketsClosed,
      medianMs: Math.round(ends.map(({ ms }) => ms).sort((a, b) => a - b)[Math.floor(ends.length / 2)]),
      exits: tally(ends.map(({ how }) => how))
    }
  } finally {
    await traffic?.stop()
    await place?.stop()
    await orders.drop()
    await rm(directory, { recursive: true, force: true })
  }
}

function keyOf (topology) {
  return Object.keys(topologies).find(key => topologies[key] === topology)
}

function unlessInterrupted (promise) {
  const { signal } = interrupted
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

function stop (message) {
  console.error(message)
  process.exit(2)
}
