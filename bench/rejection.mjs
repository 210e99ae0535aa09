/** (b) The rate of a draining server's 503s, compared with plain answers and with Fastify's own 503. */
import { run } from './support/child.mjs'
import { interleave, ratios, summary } from './support/statistics.mjs'

export const title = '503s while draining'

const kinds = {
  '200 of bare Fastify': { name: 'bare', how: '200' },
  '200 of fastify-shutdown': { name: 'shutdown-count', how: '200' },
  "Fastify's own 503 (no Retry-After, past every hook)": { name: 'bare', how: 'fastify' },
  "fastify-shutdown's 503, through the app's error handler": { name: 'shutdown-count', how: '503' },
  "fastify-shutdown's 503, `errorResponseBuilder: () => 'busy'`": { name: 'shutdown-rejection', how: '503' }
}

export async function measure ({ quick, rounds = quick ? 2 : 6, log }) {
  const config = { warmUp: quick ? 2_000 : 10_000, batches: quick ? 5 : 20, perBatch: 500 }
  const labels = Object.keys(kinds)
  const samples = await interleave(labels, rounds, label => run('rejection', { ...kinds[label], ...config }), log)
  const perSecond = label => samples.get(label).map(({ perRequest }) => 1e9 / perRequest)
  const base = perSecond(labels[0])
  const own = perSecond(labels[2])
  const rows = labels.map(label => ({ label, of200: summary(ratios(perSecond(label), base)), ofOwn: summary(ratios(perSecond(label), own)) }))
  return {
    rounds,
    rows,
    tables: [{ columns: ['answers per second', "against bare Fastify's 200", "against Fastify's own 503"], rows: rows.map(row => [row.label, row.of200, row.ofOwn]) }],
    charts: [{ file: 'rejection', title: "Answers per second, each over its own connection, bare Fastify's 200 = 1 (more is better)", bars: rows.map(({ label, of200 }) => ({ label, value: of200.median, low: of200.low, high: of200.high })) }],
    targets: [{ what: "503s per second against Fastify's own 503", limit: 1, atLeast: true, value: rows[3].ofOwn.median }],
    notes: [
      "Fastify's router writes its own 503 without any hook or error handler. The plugin's 503 runs the app's onRequest and onSend hooks and its error handler, so that it has CORS headers and the app's error format. This is the extra cost.",
      'Every answer carries `Connection: close`, as all answers of a draining server do. So each has its own connection, and the figure includes its cost. In-process, p10 of the batches, a fresh process for each sample.'
    ]
  }
}
