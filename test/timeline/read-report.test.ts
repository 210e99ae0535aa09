/** The last report in any text is found, and is checked field by field. */
import fc from 'fast-check'
import t from 'tap'
import { findReport, readReport } from '../../lib/timeline/read-report'
import { sample, sampleJson } from '../helpers/reports'

const line = JSON.stringify(JSON.parse(sampleJson))
const logLine = (report: string, message = 'shutdown: forced in 11460 ms'): string =>
  `{"level":30,"time":1773308478674,"pid":1,"shutdown":${report},"msg":"${message}"}`
const other = '{"outcome":"clean","exitCode":0,"durationMs":5,"phases":[]}'

t.test('a report is found in every form', async t => {
  for (const [form, text] of Object.entries({
    'pretty JSON': sampleJson,
    'one line': line,
    'with a byte order mark': `\ufeff${sampleJson}`,
    'an array of reports': `[${other},${line}]`,
    'an array of log records': `[${logLine(other)},${logLine(line)},{"level":30,"msg":"bye"}]`,
    'a log line': logLine(line),
    'log lines': `${logLine('{"phase":"draining"}')}\n${logLine(line)}\n{"level":30,"msg":"bye"}\n`,
    'log lines of Windows': `${logLine(other)}\r\n${logLine(line)}\r\n`,
    'log lines with others between': `\n> npm start\n\n${logLine(line)}\nnpm error {"phases"}\n}{\n[]\n`,
    'log lines with a prefix': `web-1  | ${logLine(other)}\nweb-1  | ${logLine(line)}\nweb-1 exited with code 1\n`,
    'a log line with braces in its prefix': `web-1 | {shop} ${logLine(line)}\n`,
    'pretty JSON with lines around': `> npm start\n${sampleJson}bye\n`,
    'a pretty array with lines around': `> npm start\n${JSON.stringify([JSON.parse(line)], null, 2)}\nbye\n`
  })) t.strictSame(readReport(text), sample, form)
})

t.test('the last of several shutdowns is used, in every form', async t => {
  t.equal(readReport(`${logLine(line)}\n${logLine(other)}\n`)?.durationMs, 5)
  t.equal(readReport(`${other}\n${sampleJson}`)?.durationMs, 11_460)
  t.equal(readReport(`${sampleJson}\n${other}\n`)?.durationMs, 5)
})

t.test('a text without a report has a reason', async t => {
  const none = /^no report of a shutdown found/
  for (const [text, message] of [
    ['', 'the input is empty'], [' \n\n', 'the input is empty'], [line.slice(0, -1), none], ['{', none], ['null', none],
    ['"phases"', none], ['[]', none], ['[[[[]]]]', none], ['{"shutdown":{"shutdown":null}}', none], [logLine('{"phase":"draining"}'), none],
    [logLine('{"name":"redis","outcome":"failed","durationMs":5}'), none], ['{"outcome":"great","phases":[],"durationMs":1}', none],
    ['{"outcome":"clean","phases":{},"durationMs":1}', none], ['{"outcome":"clean","phases":[],"durationMs":"1"}', none],
    ['INFO (1): shutdown: clean in 5 ms\n    shutdown: {\n      "phases": []\n    }', none], ['['.repeat(100_000), none],
    [`${logLine(line)}\n{"schemaVersion":2,"outcome":"clean","phases":[],"durationMs":1}`, /later schemaVersion than 1/]
  ] as const) {
    t.match(findReport(text), message, text.slice(0, 60))
    t.equal(readReport(text), null)
  }
})

t.test('a log line of an earlier version has no times of tasks, and its resources count from the teardown', async t => {
  const report = readReport(logLine(JSON.stringify({
    outcome: 'failed',
    exitCode: 1,
    durationMs: 500,
    phases: [{ phase: 'draining', startedMs: 0, durationMs: 300, outcome: 'clean' }, { phase: 'cleaning', startedMs: 300, durationMs: 200, outcome: 'failed' }],
    tasks: [{ name: 'mail', outcome: 'completed', durationMs: 12 }],
    resources: [{ name: 'redis', outcome: 'failed', startedMs: 10, durationMs: 20, waitedFor: ['worker'], error: 'boom' }],
    errors: ["Resource 'redis' failed: boom"]
  })))
  t.match(report, {
    tasks: [{ startedMs: null, durationMs: 12 }],
    resources: [{ startedMs: 310, waitedFor: ['worker'], error: { name: 'Error', message: 'boom' } }],
    errors: [{ message: "Resource 'redis' failed: boom" }],
    inFlight: [],
    requests: { completed: 0, cut: [] }
  })
})

t.test('a field with a wrong value is empty, and an unknown outcome is the worst', async t => {
  const report = readReport(JSON.stringify({
    schemaVersion: 1,
    outcome: 'failed',
    durationMs: -5,
    phases: [null, { phase: 7, startedMs: 'now', durationMs: 1e300, outcome: 'great' }],
    requests: { completed: -1, rejected: 1.5, cut: 'all' },
    tasks: { length: 3 },
    resources: [{ name: {}, outcome: 'exploded', waitedFor: [1, 'a', null], error: 7 }],
    errors: [{}, { message: 'x', code: 5 }],
    criticalPath: 'redis'
  }))
  t.match(report, {
    exitCode: 1,
    durationMs: 0,
    startedAt: '',
    phases: [{ phase: 'unknown' }, { phase: 'unknown', startedMs: 0, durationMs: 1e12, outcome: 'failed' }],
    requests: { completed: 0, rejected: 2, cut: [] },
    tasks: [],
    resources: [{ name: '', outcome: 'abandoned', waitedFor: ['a'], error: null }],
    criticalPath: []
  })
  t.strictSame(report?.errors, [{ name: 'Error', message: 'x', code: '' }])
})

t.test('a log of 200 000 lines is searched in time that grows with its length', async t => {
  const began = performance.now()
  t.match(findReport('{\n}\n"phases" } {\n'.repeat(70_000)), /no report/)
  t.ok(performance.now() - began < 10_000)
})

t.test('no text makes the search throw', async () => {
  fc.assert(fc.property(fc.string({ unit: 'binary' }), text => { findReport(text) }))
  fc.assert(fc.property(fc.array(fc.constantFrom('{', '}', '[', ']', '\n', '"phases"', ':', ',', '"shutdown"', '\\', other), { maxLength: 40 }), parts => {
    findReport(parts.join(''))
  }))
})
