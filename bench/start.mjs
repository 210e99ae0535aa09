/** (h) The cost of a contender at the start of a service: its import, and its registration until the app is ready. */
import { run } from './support/child.mjs'
import { labelOf, whoTakesPart } from './support/contenders.mjs'
import { interleave, ratios, summary } from './support/statistics.mjs'

export const title = 'Import and registration'

export async function measure ({ quick, rounds = quick ? 2 : 15, only, log }) {
  const names = await whoTakesPart('start', only)
  const samples = await interleave(names, rounds, name => run('start', { name }), log)
  const of = (name, what) => samples.get(name).map(sample => sample[what])
  const rows = []
  for (const name of names) {
    rows.push({ name, label: await labelOf(name), import: summary(of(name, 'importShare')), whole: summary(ratios(of(name, 'wholeMs'), of('bare', 'wholeMs'))), cpu: summary(ratios(of(name, 'cpuMs'), of('bare', 'cpuMs'))), modules: samples.get(name)[0].modules })
  }
  return {
    rounds,
    rows,
    tables: [{
      columns: ['contender', "end of Fastify's import until ready, Fastify's import = 1", "start of Fastify's import until ready, bare Fastify = 1", 'CPU time from the start of the process until it listens, bare Fastify = 1', "CommonJS modules loaded after Fastify's import"],
      rows: rows.map(row => [row.label, row.import, row.whole, row.cpu, String(row.modules)])
    }],
    charts: [{ file: 'start', title: "Start of Fastify's import until the app is ready, bare Fastify = 1", bars: rows.map(({ label, whole }) => ({ label, value: whole.median, low: whole.low, high: whole.high })), from: 0.5 }],
    targets: [{ what: "CPU time from the start of the process until it listens, with `track: 'count'`, against bare Fastify", limit: 1.1, value: rows.find(({ name }) => name === 'shutdown-count')?.cpu.median ?? NaN }],
    notes: [
      'Each sample has a fresh process. The files are in the cache of the file system.',
      "Fastify itself loads more than a hundred modules until the app is ready. The cost of a contender is its difference from bare Fastify. ES modules, such as lightship's, are not counted."
    ]
  }
}
