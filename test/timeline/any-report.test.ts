/** A report with any content is rendered. */
import fc from 'fast-check'
import t from 'tap'
import { renderHtml } from '../../lib/timeline/html'
import { cellsOf } from '../../lib/timeline/plain-text'
import { readReport } from '../../lib/timeline/read-report'
import { renderSvg } from '../../lib/timeline/svg'
import { renderText } from '../../lib/timeline/text'
import { hostileNames } from '../helpers/reports'
import { elementsOf } from '../helpers/xml'

/** A value that is mostly of the right kind. */
const mostly = <T>(right: fc.Arbitrary<T>): fc.Arbitrary<unknown> => fc.oneof({ weight: 9, arbitrary: right }, { weight: 1, arbitrary: fc.jsonValue() })

const name = mostly(fc.oneof(fc.string({ unit: 'binary', maxLength: 30 }), fc.constantFrom(...hostileNames, 'a', 'b', 'c', 'onClose hook of a')))
const time = mostly(fc.oneof(fc.double({ noNaN: true }), fc.integer({ min: -1_000, max: 60_000 }), fc.constant(0)))
const record = (fields: Record<string, fc.Arbitrary<unknown>>): fc.Arbitrary<unknown> => mostly(fc.record(fields, { requiredKeys: [] }))
const list = (item: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> => mostly(fc.array(item, { maxLength: 8 }))
const outcome = mostly(fc.constantFrom('clean', 'closed', 'completed', 'cancelled', 'forced', 'failed', 'abandoned'))
const error = mostly(record({ name, message: name, code: name }))
const span = { startedMs: time, durationMs: time, outcome }

const anyReport = fc.record({
  schemaVersion: fc.constantFrom(0, 1, undefined),
  outcome: fc.constantFrom('clean', 'forced', 'failed'),
  // JSON has no infinity.
  durationMs: fc.oneof(fc.double({ noNaN: true, noDefaultInfinity: true }), fc.integer({ min: 0, max: 60_000 }), fc.constant(0)),
  phases: fc.array(record({ phase: mostly(fc.constantFrom('lame-duck', 'draining', 'cleaning', 'shutdown')), ...span }), { maxLength: 10 }),
  exitCode: mostly(fc.constantFrom(0, 1)),
  startedAt: mostly(fc.date({ noInvalidDate: true }).map(date => date.toISOString())),
  reason: record({ kind: name, detail: name }),
  inFlight: list(record({ atMs: time, requests: time, streams: time, webSockets: time })),
  requests: record({ completed: time, rejected: time, aborted: time, cut: list(record({ method: name, route: name, ageMs: time, category: name, waitsFor: name })) }),
  streams: record({ ended: time, cut: time }),
  webSockets: record({ closed: time, terminated: time }),
  http2Sessions: record({ closed: time, destroyed: time }),
  sockets: record({ idle: time, silent: time, destroyed: time }),
  tasks: list(record({ name, ...span })),
  resources: list(record({ name, ...span, waitedFor: list(name), error })),
  hooks: list(record({ name, ...span, hook: mostly(fc.constantFrom('preClose', 'onClose')), error })),
  errors: list(error),
  criticalPath: list(name)
})

t.test('any report is rendered as text that fits, as well-formed SVG, and as a page', async () => {
  fc.assert(fc.property(anyReport, fc.integer({ min: 20, max: 200 }), (given, width) => {
    const report = readReport(JSON.stringify(given))
    if (report === null) throw new Error('The report is not found')
    for (const line of renderText(report, { width }).split('\n')) {
      if (cellsOf(line) > width) throw new Error(`wider than ${width}: ${line}`)
      // eslint-disable-next-line no-control-regex
      if (/[\u0000-\u001f\u007f-\u009f]/.test(line)) throw new Error(`control character: ${JSON.stringify(line)}`)
    }
    const svg = renderSvg(report)
    elementsOf(svg)
    const html = renderHtml(report)
    // In attributes, where no name stands.
    const broken = /(?:x|y|d|width|height|viewBox)="[^"]*(?:NaN|Infinity|undefined|e[+-]?\d)[^"]*"/.exec(svg + html)
    if (broken !== null) throw new Error(broken[0])
  }), { numRuns: 100 })
})
