/** (b) The rate of a draining server's 503s, compared with plain answers and with Fastify's own 503. */
import { connect } from 'node:net'
import { run, start } from './support/child.mjs'
import { interleave, ratios, summary } from './support/statistics.mjs'

export const title = '503s while draining'

const kinds = {
  '200 of bare Fastify': { name: 'bare', how: '200' },
  '200 of fastify-shutdown': { name: 'shutdown-count', how: '200' },
  "Fastify's own 503 (without Retry-After and without hooks)": { name: 'bare', how: 'fastify' },
  "fastify-shutdown's 503": { name: 'shutdown-count', how: '503' },
  "fastify-shutdown's 503, `errorResponseBuilder: () => 'busy'`": { name: 'shutdown-rejection', how: '503' }
}

export async function measure ({ quick, rounds = quick ? 2 : 6, log }) {
  const config = { warmUp: quick ? 2_000 : 10_000, batches: quick ? 5 : 20, perBatch: 500 }
  const labels = Object.keys(kinds)
  const samples = await interleave(labels, rounds, label => run('rejection', { ...kinds[label], ...config }), log)
  log('over HTTP')
  const http = await interleave(labels, rounds, label => overHttp(kinds[label], quick ? 500 : 4_000), log)
  // Answers per second of CPU time, with garbage collection: other processes of the machine do not change it.
  const perSecond = (label, from = samples) => from.get(label).map(({ cpuPerRequest }) => 1e9 / cpuPerRequest)
  const base = perSecond(labels[0])
  const own = perSecond(labels[2])
  const ownHttp = perSecond(labels[2], http)
  const rows = labels.map(label => ({
    label,
    of200: summary(ratios(perSecond(label), base)),
    ofOwn: summary(ratios(perSecond(label), own)),
    http: summary(ratios(perSecond(label, http), ownHttp))
  }))
  return {
    rounds,
    rows,
    tables: [{ columns: ['answers per second of CPU time', "in-process, against bare Fastify's 200", "in-process, against Fastify's own 503", "over HTTP, against Fastify's own 503"], rows: rows.map(row => [row.label, row.of200, row.ofOwn, row.http]) }],
    charts: [{ file: 'rejection', title: "Answers per second of CPU time, each over its own connection, bare Fastify's 200 = 1 (more is better)", bars: rows.map(({ label, of200 }) => ({ label, value: of200.median, low: of200.low, high: of200.high })) }],
    targets: [
      { what: "503s per second of CPU time against Fastify's own 503, in-process", limit: 1, atLeast: true, value: rows[3].ofOwn.median },
      { what: "503s per second of CPU time against Fastify's own 503, over HTTP", limit: 1, atLeast: true, value: rows[3].http.median }
    ],
    notes: [
      "Fastify's router writes its own 503 without any hook or error handler. The plugin's 503 has a Retry-After, the CORS headers and the app's error format. So it goes through Fastify's route, the earlier onRequest hooks, the onSend hooks, and an error handler of the app. This is the extra cost.",
      'Every answer carries `Connection: close`, as all answers of a draining server do. So each has its own connection, and the figure includes its cost. A fresh process for each sample. The CPU time is that of all threads, with garbage collection. Over HTTP it is that of the server alone.'
    ]
  }
}

/** CPU time of the server for each answer, nanoseconds. */
async function overHttp (kind, requests) {
  const server = start('rejection', { ...kind, overHttp: true })
  try {
    const { port } = await server.line()
    await load(port, requests, kind.how)
    const before = await cpu(server)
    await load(port, requests, kind.how)
    return { cpuPerRequest: (await cpu(server) - before) * 1_000 / requests }
  } finally {
    server.kill('SIGKILL')
    await server.exited
  }
}

async function cpu (server) {
  server.say('cpu')
  const { cpu: { user, system } } = await server.line()
  return user + system
}

/** Ten clients, each of which opens a connection for each request. */
async function load (port, requests, how) {
  const expected = `HTTP/1.1 ${how === '200' ? 200 : 503} `
  await Promise.all(Array.from({ length: 10 }, async () => {
    for (let left = requests / 10; left > 0; left--) {
      const answer = await once(port)
      if (!answer.startsWith(expected)) throw new Error(`Expected ${expected}, got ${answer}`)
    }
  }))
}

function once (port) {
  return new Promise((resolve, reject) => {
    let answer = ''
    const socket = connect(port, '127.0.0.1', () => socket.write('GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n'))
    socket.setEncoding('latin1').on('data', chunk => { answer += chunk }).on('error', reject).on('close', () => resolve(answer))
  })
}
