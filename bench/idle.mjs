/** (d) SIGTERM without requests in flight: thousands of idle connections, and silent and half-sent ones. */
import { execFileSync } from 'node:child_process'
import { start, terminate } from './support/child.mjs'
import { labelOf, whoTakesPart } from './support/contenders.mjs'
import { interleave, median, ratios, summary } from './support/statistics.mjs'
import { verdict } from './support/verdict.mjs'

export const title = 'Idle, silent and half-sent connections'

/** As in tail.mjs. */
const longest = 12_000

export async function measure ({ quick, rounds = quick ? 1 : 3, only, log }) {
  const names = await whoTakesPart('idle', only)
  const files = openFiles()
  const notes = []
  const kinds = [
    { kind: 'idle', count: 0 }, { kind: 'idle', count: 1_000 }, { kind: 'idle', count: 10_000, few: true }, { kind: 'silent', count: 200 }, { kind: 'half', count: 200 }
  ].filter(({ count }) => {
    if (count + 100 <= files) return true
    notes.push(`${count} connections were left out: only ${files} open files are allowed here (ulimit -Hn).`)
    return false
  })
  const cap = quick ? 3_000 : longest
  const rows = []
  for (const { kind, count, few = false } of kinds) {
    const what = count === 0 ? 'no connection' : `${count.toLocaleString('en')} ${kind === 'half' ? 'half-sent' : kind}`
    log(`${what}: which contenders hang`)
    const first = new Map(count > 200 ? [] : await Promise.all(names.map(async name => [name, await once(name, kind, count, cap)])))
    const prompt = names.filter(name => count > 200 || (!first.get(name).hung && first.get(name).exitMs < 2_000))
    const samples = await interleave(prompt, few ? Math.ceil(rounds / 2) : rounds, name => once(name, kind, count, cap), log)
    const limit = median(samples.get('limit').map(sample => sample.goneMs))
    const bare = samples.get('bare')
    for (const name of names) {
      const all = samples.get(name) ?? [first.get(name)]
      const late = samples.has(name) ? all.find(({ hung }) => hung) : first.get(name)
      rows.push({
        name,
        what,
        label: await labelOf(name),
        hung: late === undefined ? null : verdict(late, cap),
        ofBare: late === undefined && bare !== undefined ? median(ratios(all.map(sample => sample.goneMs), bare.map(sample => sample.goneMs))) : null,
        gone: late === undefined ? summary(all.map(sample => sample.goneMs / limit)) : null,
        stallMs: late === undefined ? median(all.map(sample => sample.stallMs)) : null,
        // A contender that crashes on the signal is the first to exit.
        clean: all.every(({ code }) => code === 0),
        codes: [...new Set(all.map(sample => sample.code ?? 'killed'))].join(', ')
      })
    }
  }
  const whats = [...new Set(rows.map(row => row.what))]
  const ours = what => rows.find(row => row.name === 'shutdown-count' && row.what === what && row.clean)
  return {
    rounds,
    rows,
    tables: whats.map(what => ({
      title: what[0].toUpperCase() + what.slice(1),
      columns: ['contender', 'SIGTERM to the end of the process, reference = 1', 'longest event-loop stall, ms', 'exit code'],
      rows: rows.filter(row => row.what === what).map(row => [row.label, row.hung ?? row.gone, row.stallMs === null ? '-' : String(Math.round(row.stallMs)), row.codes])
    })),
    charts: whats.slice(1).map(what => ({
      file: `connections-${what.replace(/[^a-z0-9]+/g, '-')}`,
      title: `SIGTERM to the end of the process, ${what}, reference = 1`,
      bars: rows.filter(row => row.what === what).map(({ label, gone, hung }) => gone === null ? { label, text: hung } : { label, value: gone.median, low: gone.low, high: gone.high })
    })),
    targets: whats.slice(1).flatMap(what => what.includes('idle')
      ? [
          ...(what === '10,000 idle' ? [{ what: `SIGTERM to the end of the process, ${what}, against bare Fastify (2 % is noise)`, limit: 1.02, value: ours(what)?.ofBare ?? NaN }] : []),
          { what: `longest event-loop stall in ms, ${what}`, limit: 50, value: ours(what)?.stallMs ?? NaN }
        ]
      : [{ what: `SIGTERM to the end of the process, ${what}, against the reference`, limit: 1.5, value: ours(what)?.gone?.median ?? NaN }]),
    notes: [
      'A stall is the longest time that a due timer waits, without the time in which the system ran other processes.',
      'The reference destroys all sockets at once, closes the raw server and exits. 4 to 10 ms of each time are the end of the process and noise. With few rounds, the noise is about a factor of 1.2.',
      `An idle connection has had one answer, a silent one has sent no byte, and a half-sent one has sent half a request head. A process that does not end within ${cap / 1_000} s is killed.`,
      ...notes
    ]
  }
}

async function once (name, kind, count, cap) {
  const server = start('server', { name })
  const { port } = await server.line()
  const clients = count === 0 ? null : start('clients', { port, count, kind })
  await clients?.line()
  const { hung, code, exitMs, goneMs, stallMs } = await terminate(server, cap)
  clients?.end()
  await clients?.exited
  return { hung, code, exitMs: exitMs ?? goneMs, goneMs, stallMs }
}

function openFiles () {
  const limit = execFileSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' }).trim()
  return limit === 'unlimited' ? Infinity : Number(limit)
}
