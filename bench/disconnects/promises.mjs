/** The promises of the soak, and whether each of them holds. */
import { fewest, flat } from '../support/flat.mjs'
import { limitMs, promptMs } from './run.mjs'

/** Memory of the plugin's server beyond bare Fastify's, in megabytes. */
const mostMegabytes = 10

/** Growth of this memory from the first wave to the last one, in megabytes: see `support/flat.mjs`. */
const mostGrowth = 3

/**
 * A stall may be this many times bare Fastify's, and `slackMs` longer. One reading on a busy machine is not exact:
 * `npm run bench -- stall` has a tighter limit.
 */
const factor = 2
const slackMs = 100

/** CPU time of the server, in the same way. It shows a slow step more exactly than the stall. */
const cpuFactor = 1.5
const cpuSlackMs = 300

/** From SIGTERM to the end of a server without clients, in milliseconds. */
const mostExitMs = 1_000

/**
 * @param bare the result of bare Fastify
 * @param ours the result of the server with the plugin
 */
export function promises (bare, ours) {
  const { counts, ended } = ours
  const stats = counts.servers.map(({ stats }) => stats)
  const active = counts.servers.map(({ active: { requests, streams } }) => requests + streams)
  const endings = ours.waves.filter(({ endless }) => !endless)
  const endless = ours.waves.at(-1)
  const beyondBare = endings.map((wave, i) => megabytes(wave) - megabytes(bare.waves[i]))
  const outcomes = ended.reports?.map(({ outcome }) => outcome) ?? []
  return [
    atMost('waves of traffic that the server was too slow for', 0, [...bare.waves, ...ours.waves].filter(({ cutShort }) => cutShort).length),
    atMost('clients whose visit did not end in time, beyond bare Fastify\'s', 0, sum(ours.waves.map(({ overdue }) => overdue)) - sum(bare.waves.map(({ overdue }) => overdue))),
    atMost('requests that Node parsed and the plugin did not count, or the reverse', 0, sum(counts.servers.map(({ received, stats }) => Math.abs(received - stats.received)))),
    atMost('received - completed - rejected - aborted - cut - in flight', 0, sum(stats.map((each, i) => Math.abs(each.received - each.completed - each.rejected - each.aborted - each.cut - active[i])))),
    atMost(`requests in flight ${promptMs} ms after the last client left, handlers that end`, 0, sum(endings.map(({ left }) => left))),
    atMost(`requests in flight a second after \`timeouts.requests\` (${limitMs} ms), handlers that never end`, 0, endless.left),
    atMost('handlers that ran while their request was not counted, over all readings', 0, sum(endings.map(({ uncounted }) => uncounted))),
    atMost('requests, streams and WebSockets in flight at the end', 0, sum(active) + sum(counts.servers.map(({ active }) => active.webSockets))),
    atMost('repeated calls of `then` on a lazy thenable, such as a query builder', 0, counts.repeated),
    atMost('memory beyond bare Fastify\'s, MB', mostMegabytes, megabytes(ours) - megabytes(bare)),
    ...(endings.length < fewest ? [] : [flat('growth of the memory beyond bare Fastify\'s, MB', mostGrowth, beyondBare)]),
    ...ours.waves.map(({ name, stallMs }, i) => atMost(`longest stall beyond ${factor} times bare Fastify's, ${name}, ms`, slackMs, stallMs - factor * bare.waves[i].stallMs)),
    ...ours.waves.map(({ name, cpuMs }, i) => atMost(`CPU time beyond ${cpuFactor} times bare Fastify's, ${name}, ms`, cpuSlackMs, cpuMs - cpuFactor * bare.waves[i].cpuMs)),
    { what: 'exit code after SIGTERM', limit: 0, value: ended.hung ? 'killed' : ended.code, holds: ended.code === 0 },
    { what: 'outcome of each server\'s shutdown', limit: 'clean', value: [...new Set(outcomes)].join(', ') || 'no report', holds: outcomes.length === counts.servers.length && outcomes.every(outcome => outcome === 'clean') },
    atMost('SIGTERM to exit, ms', mostExitMs, ended.hung ? Infinity : ended.goneMs)
  ]
}

function atMost (what, limit, value) {
  return { what, limit, value: Number.isInteger(value) ? value : Number(value.toFixed(1)), holds: value <= limit }
}

function megabytes ({ heap: { heapUsed, external } }) {
  return (heapUsed + external) / 1e6
}

function sum (values) {
  return values.reduce((total, value) => total + value, 0)
}
