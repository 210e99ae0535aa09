/** Reports for the tests of the timeline. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readReport } from '../../lib/timeline/read-report'
import type { ReportData, ResourceData } from '../../lib/timeline/report-data'

/** The report of the pictures in docs/timeline.md, as JSON. */
export const sampleJson = readFileSync(join(__dirname, '../../docs/images/report.json'), 'utf8')

/** The same as data. */
export const sample: ReportData = readReport(sampleJson)!

/** A shutdown of nothing, which took no time. */
export const empty: ReportData = readReport('{ "outcome": "clean", "exitCode": 0, "durationMs": 0, "phases": [] }')!

/** A resource that closed. */
export function resource (name: string, startedMs: number, durationMs: number, waitedFor: string[] = []): ResourceData {
  return { name, outcome: 'closed', startedMs, durationMs, waitedFor, error: null }
}

/** Names that a careless renderer passes on: markup, control characters, other directions, wide characters, … */
export const hostileNames: readonly string[] = [
  '<script>document.title = "injected"</script>', '"><img src=x onerror=alert(1)>', '</title></style></svg>', '&lt;b&gt; &amp;',
  'a\u001b[31mred\u001b]0;title\u0007', '\u009b31m', 'zero\u0000byte', 'line\r\nbreak\u2028and\u0085more', '\u202eevil\u202c', '\ud800 lone \udfff',
  'שלום עולם', 'مرحبا (قاعدة) 12', '👩‍👩‍👧‍👦 🚀🚀🚀', '数据库连接池', 'e\u0301'.repeat(40), 'n'.repeat(10_000), 'word '.repeat(2_000), '',
  '__proto__', ']]>', '<!-- ', 'javascript:alert(1)'
]

/** A report in which each name and message is one of `names`. */
export function reportNamed (names: readonly string[]): ReportData {
  const error = (message: string): object => ({ name: message, message, code: message })
  return readReport(JSON.stringify({
    ...sample,
    reason: { kind: names[0], detail: names.join(' ') },
    startedAt: names[0],
    phases: names.map((phase, index) => ({ phase, startedMs: index * 10, durationMs: 10, outcome: 'clean' })),
    requests: { ...sample.requests, cut: names.map(name => ({ method: name, route: name, ageMs: 1, category: name, waitsFor: 'app' })) },
    tasks: names.map(name => ({ name, outcome: 'completed', startedMs: -5, durationMs: 50 })),
    resources: names.map(name => ({ name, outcome: 'failed', startedMs: 50, durationMs: 50, waitedFor: names, error: error(name) })),
    hooks: names.map(name => ({ hook: 'onClose', name, outcome: 'failed', startedMs: 50, durationMs: 50, error: error(name) })),
    errors: names.map(error),
    criticalPath: names
  }))!
}
