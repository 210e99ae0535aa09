/** The timeline as text. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { cellsOf } from '../../lib/timeline/plain-text'
import { renderText } from '../../lib/timeline/text'
import { empty, hostileNames, reportNamed, resource, sample } from '../helpers/reports'

t.test('a clean shutdown', async t => {
  const report = {
    ...empty,
    reason: { kind: 'signal', detail: 'SIGTERM' },
    startedAt: '2026-03-12T09:41:07.214Z',
    durationMs: 52,
    phases: [
      { phase: 'draining', startedMs: 0, durationMs: 31.2, outcome: 'clean' as const },
      { phase: 'cleaning', startedMs: 31.2, durationMs: 20, outcome: 'clean' as const }
    ],
    inFlight: [[0, 2], [12, 1], [31, 0]].map(([atMs, requests]) => ({ atMs: atMs!, requests: requests!, streams: 0, webSockets: 0 })),
    requests: { completed: 3, rejected: 1, aborted: 0, cut: [] },
    resources: [resource('worker', 31.3, 4.4), resource('postgres', 35.9, 15, ['worker'])],
    criticalPath: ['worker', 'postgres']
  }
  t.equal(renderText(report, { width: 60 }), `\
Shutdown: signal SIGTERM, 2026-03-12 09:41:07 UTC

             |0           |20 ms        |40 ms
Phases
  draining   ██████████████████████               31 ms
  cleaning                        ██████████████  20 ms

In flight
  requests   █████████▄▄▄▄▄▄▄▄▄▄▄▄▄               at most 2

Resources and hooks (* critical path)
* worker                          ████            4.4 ms
* postgres                           ███████████  15 ms

Requests: 3 answered, 1 rejected, 0 aborted by their
  client
Cut: nothing
Critical path: worker → postgres
Clean shutdown in 52 ms, exit code 0
`)
})

t.test('a forced shutdown, with dependencies, cuts and errors', async t => {
  const report = { ...sample, errors: [{ name: 'Error', message: "Task 'mail' failed: boom", code: 'E_MAIL' }] }
  t.equal(renderText(report, { width: 110 }), `\
Shutdown: signal SIGTERM, 2026-03-12 09:41:07 UTC

                                  |0               |5 s             |10 s
Phases
  lame-duck                       ███████                                 2.00 s
  draining                              ██████████████████                5.00 s
  cleaning                                               ████████████████ 4.45 s
  shutdown                                                              █ 2 ms

In flight
  requests                        ████▆▅▄▄▃▂▂▂▂▂▂▂▁▁▁▁▁▁▁▁                at most 16
  streams                         ███████▃▃▃▃▃                            at most 3
  WebSockets                      ██▇▇▆▄▃▂                                at most 6
  cut                                                    x                2 requests cut

Tasks
  audit log of order 4711         <███                                    2.61 s
  thumbnails                        █████                                 1.39 s cancelled
  invoice mail                           █████████████                    3.48 s

Resources and hooks (* critical path)
  @fastify/websocket preClose                            █                3 ms
  search                                                 ██               310 ms
* worker                                                 █████            1.18 s
  @fastify/under-pressure onClose                        █                1 ms
* queue                                                      █            64 ms            after worker
  @fastify/mysql onClose                                     ██           240 ms
* redis                                                       █████████x  3.00 s forced    after worker, queue
* postgres                                                              █ 128 ms           after worker, redis
* telemetry                                                             █ 66 ms            after postgres

Requests that were cut
  POST /reports/:id/export: after 9.21 s, waited for the app
  GET /files/*: after 6.14 s, category downloads, waited for its client

Errors
  E_MAIL: Task 'mail' failed: boom

Requests: 918 answered, 37 rejected, 1 aborted by their client
Cut: 2 requests
Forced: redis
Cancelled: task thumbnails
Errors: E_MAIL: Task 'mail' failed: boom
Critical path: worker → queue → redis → postgres → telemetry
Forced shutdown in 11.5 s, exit code 1
`)
})

t.test('a shutdown of nothing', async t => {
  t.equal(renderText(empty, { width: 80 }), `\
Shutdown: unknown reason

             |0         |0.2 ms    |0.4 ms    |0.6 ms    |0.8 ms

Requests: 0 answered, 0 rejected, 0 aborted by their client
Cut: nothing
Clean shutdown in 0 ms, exit code 0
`)
})

t.test('no line is wider than the terminal', async t => {
  for (const report of [sample, empty, reportNamed(hostileNames)]) {
    for (const width of [20, 33, 60, 80, 100, 200]) {
      for (const line of renderText(report, { width }).split('\n')) t.ok(cellsOf(line) <= width, `${width}: ${line}`)
    }
  }
})

t.test('an invalid width is replaced by the smallest one', async t => {
  for (const width of [0, -5, NaN, 3.7]) t.equal(renderText(sample, { width }), renderText(sample, { width: 20 }))
  t.equal(renderText(sample), renderText(sample, { width: 100 }))
})

t.test('colours do not change the text, and only our own escape sequences are written', async t => {
  for (const report of [sample, reportNamed(hostileNames)]) {
    const plain = renderText(report)
    // eslint-disable-next-line no-control-regex
    t.notMatch(plain, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/)
    const coloured = renderText(report, { color: true })
    t.not(coloured, plain)
    // eslint-disable-next-line no-control-regex
    const lines = coloured.replace(/\u001b\[\d{1,2}m/g, '').split('\n').map(line => line.trimEnd())
    t.equal(lines.join('\n'), plain)
  }
})

t.test('of 1 000 resources and errors some are listed, and the others are counted', async t => {
  const resources = Array.from({ length: 1_000 }, (_, index) => resource(`r${index}`, index, 5))
  const errors = resources.map(({ name }) => ({ name: 'Error', message: name, code: '' }))
  const lines = renderText({ ...empty, resources, errors }).split('\n')
  t.ok(lines.length < 100)
  t.ok(lines.includes('  and 940 more'))
  t.ok(lines.includes('  and 990 more'))
})

t.test('docs/timeline.md shows this text', async t => {
  t.match(readFileSync(join(__dirname, '../../docs/timeline.md'), 'utf8'), `\`\`\`text\n${renderText(sample)}\`\`\`\n`)
})
