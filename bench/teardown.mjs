/** (f) The cost of closing by dependency, compared with the least code that can do it and with the longest chain. */
import { run } from './support/child.mjs'
import { interleave, summary } from './support/statistics.mjs'

export const title = 'Teardown by dependency'

const shapes = ['wide', 'chain', 'random', 'ladder']

export async function measure ({ quick, rounds = quick ? 1 : 3, log }) {
  const kinds = [1_000, 10_000].flatMap(count => shapes.map(shape => ({ shape, count })))
  const keys = kinds.map(kind => JSON.stringify(kind))
  const samples = await interleave(keys, rounds, key => run('teardown', { ...JSON.parse(key), repeats: quick ? 5 : 25 }), log)
  const rows = kinds.map((kind, i) => {
    const of = what => summary(samples.get(keys[i]).map(sample => sample[what]))
    return { ...kind, warm: of('warm'), cold: of('cold'), fastify: of('fastify') }
  })
  const waits = ['chain', 'random', 'ladder']
  const waiting = await interleave(waits, quick ? 1 : 3, shape => run('teardown', { shape, waiting: true, count: shape === 'chain' ? 50 : 1_000 }), log)
  const waitingRows = waits.map(shape => {
    const of = what => summary(waiting.get(shape).map(sample => sample[what]))
    return { shape, ours: of('ours'), counting: of('counting') }
  })
  const worst = count => Math.max(...rows.filter(row => row.count === count).map(row => row.warm.median))
  return {
    rounds,
    rows: [...rows, ...waitingRows],
    tables: [
      { title: 'Resources that close at once', columns: ['graph', 'against the counting executor, warm', 'first teardown of the process', "against as many onClose hooks of Fastify's, warm"], rows: rows.map(row => [`${row.count.toLocaleString('en')} ${row.shape}`, row.warm, row.cold, row.fastify]) },
      { title: 'Resources that take 10 ms (random: 5 to 15)', columns: ['graph', 'fastify-shutdown against the longest chain', 'counting executor against the longest chain'], rows: waitingRows.map(row => [row.shape, row.ours, row.counting]) }
    ],
    charts: [{ file: 'teardown', title: 'Time of a teardown, counting executor = 1', bars: rows.map(row => ({ label: `${row.count.toLocaleString('en')} ${row.shape}`, value: row.warm.median, low: row.warm.low, high: row.warm.high })) }],
    targets: [
      { what: '10,000 resources against the counting executor (worst graph)', limit: 3, value: worst(10_000) },
      { what: 'resources that wait against their longest chain (worst graph)', limit: 1.05, value: Math.max(...waitingRows.map(row => row.ours.median)) }
    ],
    notes: [
      'In the graph *wide*, no resource depends on another one. In *chain*, each depends on the one before. In *random*, each depends on up to three others. *ladder* has 50 levels of the same width, and each resource depends on two of the level below.',
      'The counting executor is the least code that closes in order: one counter per resource, without checks of names, timeouts, signals or a report (`bench/support/counting.mjs`). `close` is an async function that does nothing. Both run in turn in the same process. The figure is the median of the repetitions, then of the processes. Each graph has its own process.',
      'The longest chain is measured with the same timers, one after another, in the same process.'
    ]
  }
}
