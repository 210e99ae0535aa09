/** Writes the results to results.json, and as tables to docs/reliability.md. So each part can be measured alone. */
import { readFileSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { median } from '../support/statistics.mjs'
import { faults } from './faults.mjs'
import { sum } from './sample.mjs'

const data = new URL('results.json', import.meta.url)
const page = new URL('../../docs/reliability.md', import.meta.url)
const versionOf = path => JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')).version

/** @param part `restarts` or `hostile`. The other part stays */
export async function record (part, result, verdict) {
  const results = { ...await read(), [part]: { ...versions(), ...compact(result), verdict } }
  const short = (_key, value) => typeof value === 'number' ? Number(value.toFixed(2)) : value
  await writeFile(data, `${JSON.stringify(results, short, 2)}\n`)
  await writePage()
}

export async function writePage () {
  await writeFile(page, fill(await readFile(page, 'utf8'), await read()))
}

/** @returns the page with new tables */
export function fill (text, results) {
  const sections = { restarts: results.restarts && restarts(results.restarts), hostile: results.hostile && hostile(results.hostile), faults: faultTables() }
  for (const [name, section] of Object.entries(sections)) {
    if (section === undefined) continue
    const [begin, end] = [`<!-- ${name}: written by \`npm run soak\` -->`, `<!-- /${name} -->`]
    const [before, rest] = text.split(begin)
    const after = rest?.split(end)[1]
    if (after === undefined) throw new Error(`docs/reliability.md has no place for '${name}': ${begin} … ${end}`)
    text = `${before}${begin}\n\n${section}\n\n${end}${after}`
  }
  return text
}

/** Prints the verdict on the terminal. */
export function print (verdict) {
  console.log(verdictTable(verdict))
}

function restarts (result) {
  const { minutes, everyMs, rate, haproxy, postgres, requests, http2AndEvents, refusedStreams, eventStreamsEnded, orders, missingOrders, webSocketsMoved, losses, repeated, ends, running, restarted, inProcess, verdict } = result
  const times = ends.map(({ ms }) => ms)
  return [
    `${source(result)}, HAProxy ${haproxy}, PostgreSQL ${postgres}.`,
    table(['what', 'count'], [
      ['minutes of traffic', minutes],
      [`restarts of an instance, one every ${everyMs / 1_000} s`, ends.length],
      ['restarts of the servers in one process, two servers each', n(inProcess.at(-1).restarts)],
      [`requests, ${rate} per second`, n(requests)],
      ['of these, HTTP/2 requests and streams of server-sent events', n(http2AndEvents)],
      ['streams of server-sent events that a restart ended', n(eventStreamsEnded)],
      ['WebSockets that were closed with a close frame, and opened again', n(webSocketsMoved)],
      ['orders that were acknowledged', n(orders)],
      ['acknowledged orders that are missing', bold(missingOrders)],
      ['requests, streams and WebSockets that were lost', bold(losses.length)],
      ['requests that HAProxy repeated', sum(repeated) === 0 ? '0' : `${n(sum(repeated))} (${list(repeated)})`],
      ['HTTP/2 streams that were refused before they were processed, and that the client sent again', n(refusedStreams)],
      ['signal to exit, ms: median (lowest to highest)', `${n(median(times))} (${n(Math.min(...times))} to ${n(Math.max(...times))})`]
    ]),
    'Memory and handles of each process, from the first sample to the last one (lowest to highest):',
    table(['process', 'samples', 'memory, MB', 'resident memory, MB', 'handles', 'file descriptors', 'listeners on `process`'], [
      held('the instance that runs all the time', running),
      held('the restarted instances, each at its exit', restarted),
      held('the process that restarts its servers', inProcess)
    ]),
    verdictTable(verdict),
    ...(losses.length === 0 ? [] : ['The losses:', table(['second of the run', 'after the last signal, ms', 'what the client saw', "HAProxy's log"], losses.map(lossRow))])
  ].join('\n\n')
}

function lossRow ({ atMs, afterSignalMs, what, proxy }) {
  const log = proxy.map(({ server, status, ended, totalMs, request }) => `\`${request}\` to ${server}: status ${status}, ended as \`${ended}\` after ${n(totalMs)} ms`)
  return [n(atMs / 1_000), afterSignalMs === null ? '-' : n(afterSignalMs), what.replace(/ \(.*/, ''), log.join('; ') || '-']
}

function held (name, samples) {
  const series = of => {
    const values = samples.map(of)
    const digits = values.every(Number.isInteger) ? 0 : 1
    const [first, last, low, high] = [values[0], values.at(-1), Math.min(...values), Math.max(...values)].map(value => value.toFixed(digits))
    return low === high ? low : `${first} to ${last} (${low} to ${high})`
  }
  return [
    name, n(samples.length), series(({ memoryMb }) => memoryMb), series(({ residentMb }) => residentMb),
    series(({ handles, connections = 0 }) => handles - connections), series(({ descriptors, connections = 0 }) => (descriptors ?? 0) - connections),
    series(({ listeners }) => listeners)
  ]
}

function hostile (result) {
  const { seed, bare, ours, verdict } = result
  const total = (of, key) => sum(Object.fromEntries(of.servers.map(({ name, [key]: value, stats }) => [name, key === 'received' ? value : stats[key]])))
  const row = (name, of) => [name, of(bare), of(ours)]
  const own = (name, key) => [name, '', n(total(ours, key))]
  return [
    `${source(result)}, seed ${seed}. Requests by connection: ${list(ours.shapes)}. By the moment at which the client leaves: ${list(ours.moments)}.`,
    table(['', 'bare Fastify', 'fastify-shutdown'], [
      row('requests that the clients sent', of => n(of.sent)),
      row('requests that Node parsed', of => n(total(of, 'received'))),
      own('counted as completed', 'completed'),
      own('counted as aborted', 'aborted'),
      own('counted as rejected', 'rejected'),
      own('counted as cut', 'cut'),
      ['in flight at the end', '', bold(ours.servers.reduce((left, { active: { requests, streams, webSockets } }) => left + requests + streams + webSockets, 0))],
      row('seconds of traffic', of => n(of.seconds)),
      row('CPU time of the server, s', of => n(of.waves.reduce((all, { cpuMs }) => all + cpuMs, 0) / 1_000)),
      row('longest stall of the event loop, ms', of => n(Math.max(...of.waves.map(({ stallMs }) => stallMs))))
    ]),
    'Memory after each wave, after a garbage collection, in MB:',
    table(['wave', 'bare Fastify', 'fastify-shutdown', 'beyond bare Fastify'], ours.waves.map(({ name, memoryMb }, i) => [
      name, bare.waves[i].memoryMb.toFixed(1), memoryMb.toFixed(1), (memoryMb - bare.waves[i].memoryMb).toFixed(1)
    ])),
    verdictTable(verdict)
  ].join('\n\n')
}

function faultTables () {
  const link = shown => typeof shown === 'string' ? `\`${shown}\`` : `[${shown[1]}](../${shown[0]})`
  return faults.map(({ part, faults }) => [
    `### ${part}`,
    table(['fault', 'what happens', 'shown by'], faults.map(({ fault, result, shown }) => [fault, result, shown.map(link).join('<br>')]))
  ].join('\n\n')).join('\n\n')
}

function verdictTable (verdict) {
  return table(['promise', 'limit', 'measured', ''], verdict.map(({ what, limit, value, holds }) => [what, limit, value, holds ? 'holds' : '**broken**']))
}

function source ({ node, fastify, version, measured, load: { lowest, mean, highest } }) {
  return `fastify-shutdown ${version}, Node.js ${node}, Fastify ${fastify}, measured on ${measured}, load average ${mean.toFixed(1)} (${lowest.toFixed(1)} to ${highest.toFixed(1)})`
}

function versions () {
  return {
    measured: new Date().toISOString().slice(0, 10),
    node: process.versions.node,
    fastify: versionOf('../../node_modules/fastify/package.json'),
    version: versionOf('../../package.json')
  }
}

/** The handles and listeners of a sample as their sums. */
function compact (result) {
  const short = ({ handles, listeners, ...rest }) => ({ ...rest, handles: sum(handles), listeners: sum(listeners) })
  return Object.fromEntries(Object.entries(result).map(([key, value]) => {
    if (Array.isArray(value) && value[0]?.handles !== undefined) return [key, value.map(short)]
    return [key, value?.handles === undefined ? value : short(value)]
  }))
}

async function read () {
  try {
    return JSON.parse(await readFile(data, 'utf8'))
  } catch {
    return {}
  }
}

function table (columns, rows) {
  const line = cells => `| ${cells.join(' | ')} |`
  return [line(columns), line(columns.map(() => '---')), ...rows.map(line)].join('\n')
}

function list (counts) {
  return Object.entries(counts).sort(([, a], [, b]) => b - a).map(([key, count]) => `${key} ${n(count)}`).join(', ')
}

function bold (count) {
  return count === 0 ? '**0**' : n(count)
}

function n (number) {
  return Math.round(number).toLocaleString('en')
}
