/**
 * The rolling-restart proof. The same service restarts again and again under every contender while clients send
 * requests: behind nginx, HAProxy, Caddy, Apache and kube-proxy's nftables, and without a proxy under PM2 and
 * node:cluster. Counts the failures that the clients see and the acknowledged orders that are missing in the database,
 * and writes the table into docs/rolling-restarts.md.
 *
 *   npm run prove:rolling                                         everything, 20 restarts each
 *   npm run prove:rolling -- --resume                             only the pieces that results.json does not have yet
 *   npm run prove:rolling -- --quick                              3 restarts each, no table
 *   npm run prove:rolling -- --topology nginx,pm2 --contender ours-1s,defaults
 *   npm run prove:rolling -- --table                              the table alone, from results.json
 *
 * The exit code is 1 if this package lost a request, a WebSocket or an order. Behind kube-proxy's nftables, this counts
 * only with a lame-duck of at least 10 s.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { contenders } from './contenders.mjs'
import { openDatabase } from './orders.mjs'
import { prove } from './prove.mjs'
import { describe, isMeasured, record, writeTable } from './table.mjs'
import { apache } from './topologies/apache.mjs'
import { caddy } from './topologies/caddy.mjs'
import { cluster } from './topologies/cluster.mjs'
import { haproxy } from './topologies/haproxy.mjs'
import { kubeProxy } from './topologies/kube-proxy.mjs'
import { nginx } from './topologies/nginx.mjs'
import { pm2 } from './topologies/pm2.mjs'
import { clientsFirst } from './topologies/processes.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const topologies = { nginx, haproxy, caddy, apache, 'kube-proxy': kubeProxy, pm2, cluster }

const { values: options } = parseArgs({
  options: {
    topology: { type: 'string', default: Object.keys(topologies).join(',') },
    /** Keys in contenders.mjs. */
    contender: { type: 'string', default: '' },
    /** Also the peers with a delay of their own. */
    all: { type: 'boolean', default: false },
    restarts: { type: 'string', default: '20' },
    quick: { type: 'boolean', default: false },
    /** Skips the pieces that results.json has, from the same code and versions, with at least as many restarts. */
    resume: { type: 'boolean', default: false },
    /** Writes the table from results.json, and measures nothing. */
    table: { type: 'boolean', default: false },
    /** Requests per second. */
    rate: { type: 'string', default: '200' },
    /** Kinds of traffic that are not sent: get, agent, slow, post, order, upload, stream, websocket. */
    without: { type: 'string', default: '' },
    /** The clients repeat a GET that fails on a reused connection, as browsers do. */
    repeat: { type: 'boolean', default: false },
    'no-write': { type: 'boolean', default: false },
    /** Also writes a result of a busy machine. */
    busy: { type: 'boolean', default: false },
    /** Prints each result as a line of JSON. */
    json: { type: 'boolean', default: false },
    /** Prints a line for each signal and each failure, and what the services and proxies print. */
    verbose: { type: 'boolean', default: false }
  }
})

/**
 * Highest load average of a result that is written. On a busier machine, the probes of the proxies time out, and the
 * proxies have no instance left.
 */
const highestLoad = 4 * availableParallelism()

/** If the run is interrupted, it stops everything that it has started. */
const interrupted = new AbortController()
const restarts = options.quick ? 3 : Number(options.restarts)
const rate = Number(options.rate)
const without = options.without.split(',').filter(Boolean)
const write = !options.quick && !options['no-write'] && !options.repeat && without.length === 0
const wanted = options.contender.split(',').filter(Boolean)
const chosen = wanted.length === 0
  ? contenders.filter(({ extra }) => options.all || !extra)
  : wanted.map(word => contenders.find(({ key }) => key === word) ?? stop(`'${word}' is not a contender: ${contenders.map(({ key }) => key).join(', ')}`))
const places = options.topology.split(',').map(key => topologies[key] ?? stop(`'${key}' is not a topology: ${Object.keys(topologies).join(', ')}`))

if (options.table) {
  await writeTable()
  process.exit(0)
}
if (process.env.PLUGIN === undefined && !existsSync(join(here, '../../dist/lib/index.js'))) stop('run `npm run build` first')
if (chosen.some(contender => contender.package !== 'fastify-shutdown') && !existsSync(join(here, 'node_modules'))) {
  execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: here, stdio: 'inherit' })
}

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => { interrupted.abort() })
clientsFirst()
const database = await openDatabase()
let failed = false
try {
  for (const topology of places) {
    if (topology.missing !== null) {
      leaveOut(topology, `install ${topology.missing}`)
      if (process.env.REQUIRE_SERVICES === '1') failed = true
      continue
    }
    if (topology.forbidden?.() != null) {
      leaveOut(topology, topology.forbidden())
      continue
    }
    const namespace = topology.enter?.([process.argv[1], ...process.argv.slice(2), '--topology', keyOf(topology)])
    if (namespace != null) {
      if (await runIn(namespace) !== 0) failed = true
      continue
    }
    for (const contender of chosen) {
      if (options.resume && await isMeasured(topology, contender, restarts)) continue
      const result = await prove({
        topology, contender, database, restarts, rate, without, repeat: options.repeat, verbose: options.verbose, signal: interrupted.signal
      })
      console.log(options.json ? JSON.stringify(result) : describe(result))
      if (contender.expectsNone?.(keyOf(topology)) && (result.failed > 0 || result.lostOrders > 0)) failed = true
      if (!write) continue
      if (result.load <= highestLoad || options.busy) await record(result, { postgres: database.version })
      else console.log(`not written: the load average was ${result.load}, and the limit is ${highestLoad} (--busy writes it)`)
    }
  }
} finally {
  await database.stop()
}
process.exit(failed ? 1 : 0)

/** Runs this command again, in another namespace. @returns its exit code */
async function runIn ({ command, args, env }) {
  const child = spawn(command, args, { stdio: 'inherit', env: { ...process.env, ...env } })
  interrupted.signal.addEventListener('abort', () => child.kill('SIGTERM'), { once: true })
  const [code] = await once(child, 'exit')
  return code
}

function leaveOut (topology, why) {
  console.log(options.json ? JSON.stringify({ topology: topology.name, leftOut: why }) : `${topology.name}: skipped, ${why}`)
}

function keyOf (topology) {
  return Object.keys(topologies).find(key => topologies[key] === topology)
}

function stop (message) {
  console.error(message)
  process.exit(2)
}
