/**
 * (i) Clients with pipelined requests that all leave at once: how long the server's event loop stalls, and how the
 * stall grows with their number.
 */
import { once } from 'node:events'
import { connect } from 'node:net'
import { start } from './support/child.mjs'
import { labelOf, whoTakesPart } from './support/contenders.mjs'
import { interleave, median, summary } from './support/statistics.mjs'

export const title = 'Clients that all leave at once'

const contenders = ['bare', 'shutdown-count', 'shutdown-category', 'shutdown-detail']

/** A server that does not answer within this time is killed, and its stall counts as this time, in milliseconds. */
const longest = 60_000

/**
 * `timeouts.requests`, in milliseconds. The plugin drops all requests that are still in flight then, which must not
 * stall the loop either.
 */
const limit = 1_000

/** A stall may be this many times bare Fastify's, and `slackMs` longer: garbage collections come at any time. */
const factor = 1.5
const slackMs = 50

export async function measure ({ quick, rounds = quick ? 1 : 3, only, log }) {
  const names = (await whoTakesPart('stall', only)).filter(name => contenders.includes(name))
  const sizes = quick ? [[100, 4], [400, 4], [200, 50]] : [[1_000, 4], [4_000, 4], [2_000, 50]]
  const rows = []
  for (const [connections, pipelined] of sizes) {
    log(`${connections} x ${pipelined}`)
    const samples = await interleave(names, rounds, name => vanish(name, connections, pipelined), log)
    const bare = median(samples.get('bare').map(stallOf))
    for (const name of names) {
      const all = samples.get(name)
      const of = what => summary(all.map(sample => sample[what]))
      rows.push({
        name,
        connections,
        pipelined,
        label: await labelOf(name),
        arriveMs: of('arriveMs'),
        vanishMs: of('vanishMs'),
        settleMs: of('settleMs'),
        ratio: median(all.map(stallOf)) / bare,
        beyondMs: median(all.map(stallOf)) - factor * bare,
        cpuPerRequest: median(all.map(sample => sample.cpuMs)) * 1_000 / connections / pipelined,
        left: Math.max(...all.map(sample => sample.left))
      })
    }
  }
  const ours = rows.filter(({ name }) => name !== 'bare')
  return {
    rounds,
    rows,
    tables: sizes.map(size => ({
      title: `${size[0].toLocaleString('en')} connections with ${size[1]} requests each`,
      columns: ['contender', 'stall while the requests come, ms', 'stall when the clients leave, ms', 'stall at `timeouts.requests`, ms', 'longest stall, bare Fastify = 1', 'CPU time to close one request, µs', 'left in flight'],
      rows: rows.filter(isSize(size)).map(row => [row.label, row.arriveMs, row.vanishMs, row.settleMs, row.ratio, row.cpuPerRequest, row.left])
    })),
    charts: [],
    targets: [
      { what: `longest stall in milliseconds beyond ${factor} times bare Fastify's, at any size and \`track\``, limit: slackMs, value: Math.max(...ours.map(({ beyondMs }) => beyondMs)) },
      { what: `CPU time to close one request, ${sizes[1].join(' x ')} against ${sizes[0].join(' x ')}`, limit: 1.5, value: Math.max(...ours.filter(isSize(sizes[1])).map(large => growth(large))) },
      { what: 'requests left in flight', limit: 0, value: Math.max(...ours.map(({ left }) => left)) }
    ],
    notes: [
      `Each connection sends its requests in one write, to a handler that waits for its client. When all have come, all connections are reset in one turn of the client's loop. \`timeouts.requests\` is ${limit} ms here. A stall is the longest time that a due timer waits, without the time in which the system ran other processes. Before Node 24, a pipelined answer that waits behind another one never emits 'close', so its handler never ends here.`,
      'The CPU time to close one request is the CPU time from the first reset until the last connection is closed, divided by the requests. It does not grow with their number if each step takes constant time.'
    ]
  }

  function growth (large) {
    const small = ours.filter(isSize(sizes[0])).find(({ name }) => name === large.name)
    return large.cpuPerRequest / small.cpuPerRequest
  }
}

function isSize ([connections, pipelined]) {
  return row => row.connections === connections && row.pipelined === pipelined
}

function stallOf ({ vanishMs, settleMs }) {
  return Math.max(vanishMs, settleMs)
}

async function vanish (name, connections, pipelined) {
  const server = start('stall', { name, requests: connections * pipelined, limit })
  const timer = setTimeout(() => server.kill('SIGKILL'), longest)
  const sockets = []
  const result = { arriveMs: longest, vanishMs: longest, settleMs: longest, cpuMs: longest, left: connections * pipelined }
  try {
    const { port } = await server.line()
    server.say('arrive')
    await server.line()
    const requests = 'GET /held HTTP/1.1\r\nHost: bench\r\n\r\n'.repeat(pipelined)
    // As many at once as the backlog of a busy server holds.
    while (sockets.length < connections) {
      await Promise.all(Array.from({ length: Math.min(200, connections - sockets.length) }, () => open(port, requests, sockets)))
    }
    const arrived = await server.line()
    result.arriveMs = arrived.stallMs
    server.say('vanish')
    await server.line()
    for (const socket of sockets) socket.resetAndDestroy()
    const vanished = await server.line()
    result.vanishMs = vanished.stallMs
    server.say('settle')
    const settled = await server.line()
    return { ...result, settleMs: settled.stallMs, cpuMs: vanished.cpuMs, left: settled.active ?? 0 }
  } catch {
    return result
  } finally {
    clearTimeout(timer)
    for (const socket of sockets) socket.destroy()
    server.kill('SIGKILL')
    await server.exited
  }
}

async function open (port, requests, sockets) {
  const socket = connect(port, '127.0.0.1')
  sockets.push(socket)
  await once(socket, 'connect')
  socket.on('error', () => {})
  socket.write(requests)
}
