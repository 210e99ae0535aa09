/**
 * (a) The cost of each request of a running server: in one process, where the noise is lowest, over real HTTP, and in
 * bytes. The figures are ratios to bare Fastify of the same round. "Noise" in the notes below names their limits.
 */
import { connect } from 'node:net'
import { run, start } from './support/child.mjs'
import { bytesPerRequest } from './support/bytes.mjs'
import { labelOf, whoTakesPart } from './support/contenders.mjs'
import { profile } from './support/profile.mjs'
import { interleave, quantile, ratios, shuffle, summary } from './support/statistics.mjs'

export const title = 'Running cost per request'

export async function measure ({ quick, rounds = quick ? 2 : 14, only, log }) {
  const names = await whoTakesPart('running', only)
  const time = { warmUp: quick ? 5_000 : 15_000, batches: quick ? 10 : 30, perBatch: 1_000 }
  log('in-process')
  const inProcess = await interleave(names, rounds, name => run('in-process', { name, ...time }), log)
  log('bytes')
  const bytes = new Map(names.map(name => [name, bytesPerRequest(name)]))
  log('profile')
  const profiled = names.filter(name => name === 'bare' || name.startsWith('shutdown-'))
  const profiles = []
  for (const name of profiled) profiles.push({ name, label: await labelOf(name), ...await profile('in-process', { name, warmUp: time.warmUp, batches: quick ? 10 : 150, perBatch: time.perBatch }) })
  log('over HTTP')
  const http = await interleave(names, quick ? 1 : 3, name => overHttp(name, quick ? 4_000 : 12_000), log)

  // The promise is smaller than the noise of one round. So its two contenders run at the same time, and get their
  // requests in turn.
  log('over HTTP, count against an empty hook')
  const pair = ['shutdown-count', 'on-request']
  const pairs = []
  if (pair.every(name => names.includes(name))) {
    for (let i = 0; i < (quick ? 1 : 20); i++) pairs.push(await inTurns(pair, quick ? 2 : 12, 2_000))
  }
  const overHook = summary(pairs)

  const rows = []
  for (const name of names) {
    const perRequest = of(inProcess, name, 'perRequest')
    rows.push({
      name,
      label: await labelOf(name),
      // The pooled figure is the ratio of the lower quartiles; the spread is that of the rounds' own ratios.
      inProcess: { ...summary(ratios(perRequest, of(inProcess, 'bare', 'perRequest'))), pooled: quantile(perRequest, 0.25) / quantile(of(inProcess, 'bare', 'perRequest'), 0.25) },
      cpu: summary(ratios(of(inProcess, name, 'cpuPerRequest'), of(inProcess, 'bare', 'cpuPerRequest'))),
      http: summary(ratios(http.get(name), http.get('bare'))),
      bytes: bytes.get(name),
      extraBytes: bytes.get(name) - bytes.get('bare')
    })
  }
  return {
    rounds,
    rows,
    tables: [{
      columns: ['contender', 'time, in-process, pooled', 'time, in-process, of the rounds (middle half)', 'CPU time with garbage collection', 'CPU time over HTTP', "bytes beyond bare Fastify's, compilers off"],
      rows: rows.map(row => [row.label, row.inProcess.pooled, row.inProcess, row.cpu, row.http, row.extraBytes.toFixed(0)])
    }, ...profileTables(profiles)],
    charts: [
      { file: 'running', title: 'Time per request, in-process, pooled, bare Fastify = 1', bars: rows.map(({ label, inProcess }) => ({ label, value: inProcess.pooled, low: inProcess.low, high: inProcess.high })), from: 0.9 },
      { file: 'allocation', title: 'Bytes allocated per request with the compilers off, bare Fastify = 1', bars: rows.map(({ label, bytes: each }) => ({ label, value: each / bytes.get('bare') })), from: 0.9 }
    ],
    targets: [
      { what: "bytes that an app with `track: 'count'` allocates for a request, against an onRequest hook that does nothing", limit: 1.02, value: (bytes.get('shutdown-count') ?? NaN) / (bytes.get('on-request') ?? NaN) },
      { what: "CPU time over HTTP with `track: 'count'`, against an onRequest hook that does nothing", limit: 1.02, value: overHook.median },
      { what: "bytes that `track: 'count'` allocates for a request beyond an onRequest hook that does nothing (a closure is 64)", limit: 32, value: (bytes.get('shutdown-count') ?? NaN) - (bytes.get('on-request') ?? NaN) }
    ],
    notes: [
      `The CPU time over HTTP with \`track: 'count'\` against an onRequest hook that does nothing was measured in ${overHook.n} pairs of processes, which got their requests in turn: ${overHook.median.toFixed(3)}, middle half ${overHook.low.toFixed(3)} – ${overHook.high.toFixed(3)}.`,
      'Requests go through the real HTTP parser over in-memory sockets: 20 keep-alive connections, no pipelining. Each contender has a fresh process in each round, in a random order. The pooled figure is the 10th percentile (p10) of the batches, then the lower quartile over the processes. In the chart, the bar is the pooled figure, and the whiskers are the middle half of the rounds.',
      'Noise: bare Fastify is measured twice, and the difference between the two is noise. Differences below 3 to 5 % in one session are noise too, and far larger ones over HTTP. p10 excludes garbage collection. The column "CPU time with garbage collection" covers all threads and all batches, and has more noise.',
      "The profiles sample the stack every 100 microseconds, in separate processes, with the warm-up. The share of a function is that of its own code, inlined or not, without its callees. To profile one mode: `node --cpu-prof bench/children/in-process.mjs '{\"name\":\"shutdown-count\",\"warmUp\":15000,\"batches\":150,\"perBatch\":1000}'`.",
      'An onRequest hook that does nothing is the least cost of every plugin with such a hook. This plugin needs one for its 503. Its own cost is the difference from that row.',
      'Over HTTP a request costs several times as much, so the same extra cost is a smaller share.'
    ]
  }
}

/** CPU time by the owner of the code, and by function of this plugin in its default mode. */
function profileTables (profiles) {
  const owners = [...new Set(profiles.flatMap(({ byOwner }) => [...byOwner.keys()]))]
  const share = (ms, all) => `${(100 * ms / all).toFixed(1)} %`
  return [
    {
      title: 'Profile (`--cpu-prof`): CPU time by the owner of the code',
      columns: ['contender', ...owners],
      rows: profiles.map(({ label, byOwner, all }) => [label, ...owners.map(owner => share(byOwner.get(owner) ?? 0, all))])
    },
    ...profiles.filter(({ name }) => name === 'shutdown-count').map(({ label, byFunction, all }) => ({
      title: `Profile: functions of ${label}`,
      columns: ['function', 'share of the CPU time'],
      rows: [...byFunction].sort(([, one], [, other]) => other - one).slice(0, 8).map(([name, ms]) => [`\`${name}\``, share(ms, all)])
    }))
  ]
}

const of = (samples, name, key) => samples.get(name).map(sample => sample[key])

/** CPU time of the server process for each request of ten keep-alive connections, microseconds. */
async function overHttp (name, requests) {
  const server = start('server', { name })
  const { port } = await server.line()
  await load(port, requests / 3)
  const before = await cpu(server)
  await load(port, requests)
  const used = await cpu(server) - before
  server.kill('SIGKILL')
  await server.exited
  return used / requests
}

/** The CPU time of one contender against that of another. Both servers run, and get `slices` times `requests` in turn. */
async function inTurns (pair, slices, requests) {
  const servers = await Promise.all(pair.map(async name => {
    const server = start('server', { name })
    const { port } = await server.line()
    return { server, port, used: 0 }
  }))
  for (const { port } of servers) await load(port, 3 * requests)
  for (let i = 0; i < slices; i++) {
    for (const each of shuffle(servers)) {
      const before = await cpu(each.server)
      await load(each.port, requests)
      each.used += await cpu(each.server) - before
    }
  }
  for (const { server } of servers) {
    server.kill('SIGKILL')
    await server.exited
  }
  return servers[0].used / servers[1].used
}

async function cpu (server) {
  server.say('cpu')
  const { cpu: { user, system } } = await server.line()
  return user + system
}

function load (port, requests, connections = 10) {
  return Promise.all(Array.from({ length: connections }, () => new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    let left = Math.ceil(requests / connections)
    socket.on('connect', send).on('error', reject).on('close', () => left === 0 ? resolve() : reject(new Error('The server ended the connection')))
    socket.once('data', chunk => { if (!String(chunk).startsWith('HTTP/1.1 200 ')) reject(new Error(`Expected 200, got ${chunk}`)) })
    // An answer of this size comes in one piece.
    socket.on('data', () => { --left === 0 ? socket.destroy() : send() })
    function send () { socket.write('GET / HTTP/1.1\r\nHost: bench\r\n\r\n') }
  })))
}
