/**
 * Writes the results to results.json, and as a table to docs/rolling-restarts.md. So each piece can be measured alone.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { contenders } from './contenders.mjs'
import { codeOf, fastifyVersion } from './versions.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const data = join(here, 'results.json')
const page = join(here, '../../docs/rolling-restarts.md')
const begin = '<!-- results: written by `npm run prove:rolling` -->'
const end = '<!-- /results -->'
const order = ['nginx', 'HAProxy', 'Caddy', 'Apache', "kube-proxy's nftables", 'PM2 reload', 'node:cluster']

export function describe (result) {
  const { topology, contender, restarts, requests, failed, lostOrders, orders, webSocketsClosed, medianMs } = result
  return `${topology} | ${contender}: ${failed} of ${requests} failed in ${restarts} restarts (${kindsOf(result)}), ` +
    `${lostOrders} of ${orders} orders lost, ${webSocketsClosed} WebSockets moved, median ${medianMs} ms from signal to exit, exit codes ${exitsOf(result)}, load ${result.load}`
}

/** Adds a result, or replaces an older one, and writes the table. */
export async function record (result, { postgres }) {
  // Read again, because another run may have written in the meantime.
  const results = await read()
  results[keyOf(result.topology, result.contender)] = {
    ...result, node: process.versions.node, fastify: fastifyVersion(), postgres, measured: new Date().toISOString().slice(0, 10)
  }
  await writeFile(data, `${JSON.stringify(results, null, 2)}\n`)
  await writeTable()
}

/** Writes the table from results.json. */
export async function writeTable () {
  const text = await readFile(page, 'utf8')
  const [before, rest] = text.split(begin)
  const after = rest?.split(end)[1]
  if (after === undefined) throw new Error(`${page} has no place for the results: ${begin} … ${end}`)
  await writeFile(page, `${before}${begin}\n${table(Object.values(await read()))}${end}${after}`)
}

/** Returns whether there is a result of the same code and the same versions, with at least as many restarts. */
export async function isMeasured (topology, contender, restarts) {
  const { [keyOf(topology.name, contender.name)]: known } = await read()
  return known !== undefined && known.restarts >= restarts && known.code === codeOf(contender.package) &&
    known.topologyVersion === topology.version() && known.node === process.versions.node && known.fastify === fastifyVersion()
}

function keyOf (topology, contender) {
  return `${topology} | ${contender}`
}

async function read () {
  try {
    return JSON.parse(await readFile(data, 'utf8'))
  } catch {
    return {}
  }
}

function table (results) {
  const names = contenders.map(({ name }) => name)
  const sorted = results.filter(({ contender }) => names.includes(contender)).sort((a, b) =>
    order.indexOf(a.topology) - order.indexOf(b.topology) || names.indexOf(a.contender) - names.indexOf(b.contender))
  const versions = list => [...new Set(list)].join(', ')
  return [
    '',
    `Node.js ${versions(sorted.map(({ node }) => node))}, Fastify ${versions(sorted.map(({ fastify }) => fastify))}, PostgreSQL ${versions(sorted.map(({ postgres }) => postgres))}, ` +
      `measured on ${versions(sorted.map(({ measured }) => measured).sort())}.`,
    '',
    '| behind | contender | version | restarts | requests | failed | per restart | failures that the clients saw | orders acknowledged | orders lost | WebSockets moved | signal to exit, median ms | exit codes | load |',
    '| --- | --- | --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | --- | ---: |',
    ...sorted.map(result => '| ' + [
      `${result.topology} ${result.topologyVersion}`, result.contender, result.version, result.restarts, result.requests,
      result.failed === 0 ? '**0**' : result.failed, (result.failed / result.restarts).toFixed(2), kindsOf(result),
      result.orders, result.lostOrders === 0 ? '**0**' : result.lostOrders, result.webSocketsClosed,
      result.topology === 'PM2 reload' ? '-' : result.medianMs, result.topology === 'PM2 reload' ? '-' : exitsOf(result), result.load ?? '-'
    ].join(' | ') + ' |'),
    ''
  ].join('\n') + '\n'
}

function kindsOf ({ failures }) {
  return Object.entries(failures).map(([kind, count]) => `${kind} ×${count}`).join(', ') || '-'
}

function exitsOf ({ exits }) {
  return Object.entries(exits).map(([how, count]) => `${how} ×${count}`).join(', ')
}
