/** (g) The memory that is kept after a million requests, of which every tenth was aborted by its client. */
import { run } from './support/child.mjs'
import { labelOf, whoTakesPart } from './support/contenders.mjs'
import { interleave, summary } from './support/statistics.mjs'

export const title = 'Memory after 1,000,000 requests'

export async function measure ({ quick, rounds = 1, only, log }) {
  const names = (await whoTakesPart('memory', only)).filter(name => only.length > 0 || ['bare', 'stoppable', 'shutdown-count', 'shutdown-category', 'shutdown-detail'].includes(name))
  const config = quick ? { requests: 18_000, aborted: 2_000 } : { requests: 900_000, aborted: 100_000 }
  const samples = await interleave(names, rounds, name => run('memory', { name, ...config }, ['--expose-gc']), log)
  const rows = []
  for (const name of names) {
    const all = samples.get(name)
    const of = what => summary(all.map((sample, i) => sample[what] / samples.get('bare')[i][what]))
    rows.push({ name, label: await labelOf(name), kept: summary(all.map(sample => sample.keptBytes / (config.requests + config.aborted))), heap: of('heapAfter'), rss: of('rssAfter'), counts: all[0].stats })
  }
  return {
    rounds,
    rows,
    tables: [{
      columns: ['contender', 'bytes kept per finished request', 'heap after a garbage collection', 'resident memory'],
      rows: rows.map(row => [row.label, row.kept.median.toFixed(3), row.heap, row.rss])
    }],
    charts: [],
    targets: [{ what: "bytes kept per finished request, track 'count'", limit: 0.5, value: rows.find(row => row.name === 'shutdown-count')?.kept.median ?? NaN }],
    notes: [`In-process, ${(config.requests + config.aborted).toLocaleString('en')} requests; the client of every tenth one disconnects before the answer. The bytes that are kept are the heap after a full garbage collection at the end, minus the heap after the warm-up. A figure below 0 means that the warm-up had left garbage. The other two columns are ratios to bare Fastify of the same round. Resident memory also depends on the time of the last collection.`]
  }
}
