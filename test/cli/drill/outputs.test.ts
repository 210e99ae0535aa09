/** The verdict, and its outputs: all show the same counts, and none is broken by hostile text. */
import { createHash } from 'node:crypto'
import t from 'tap'
import { requestClasses, type RequestCounts } from '../../../lib/cli/drill/classes'
import { formatHtml } from '../../../lib/cli/drill/outputs/html'
import { formatJUnit } from '../../../lib/cli/drill/outputs/junit'
import { formatMarkdown } from '../../../lib/cli/drill/outputs/markdown'
import { formatPlain } from '../../../lib/cli/drill/outputs/plain'
import { rules } from '../../../lib/cli/drill/result'
import { noStreams } from '../../../lib/cli/drill/streams'
import { judge } from '../../../lib/cli/drill/verdict'
import { noWebSockets } from '../../../lib/cli/drill/websockets'
import { limits, restart, resultOf, type Given } from './results'

t.test('the rules', async t => {
  const found = (given: Given, options: { lost?: number } = {}): string[] =>
    judge([restart(given)], { ...limits, ...options }).reasons.map(({ rule, count }) => `${rule} ${count}`)
  t.strictSame(found({}), [])
  t.strictSame(found({ after: { refused: 500, rejected: 50, retried: 3, acceptQueue: 4, unfinished: 5 } }), [], 'none of these is lost')
  for (const name of ['resetBefore', 'resetAfter', 'truncated', 'hung'] as const) {
    t.strictSame(found({ after: { [name]: 2 } }), ['lost 2'])
    t.strictSame(found({ after: { [name]: 2 } }, { lost: 2 }), [])
    t.strictSame(found({ before: { [name]: 1 }, after: { [name]: 2 } }, { lost: 2 }), ['lost 3'])
  }
  t.strictSame(found({ after: { rejectedWithoutRetryAfter: 1 } }), ['retry-after 1'])
  t.strictSame(found({ process: { exitCode: 1 } }), ['exit-code 1'])
  t.strictSame(found({ process: { exitCode: null, signal: 'SIGTERM' } }), ['ended-by-signal 1'])
  t.strictSame(found({ process: { exitCode: null } }), [], 'not a child of the drill')
  t.strictSame(found({ process: { orphans: [{ pid: 1, command: 'sleep' }, { pid: 2, command: 'sleep' }] } }), ['orphan 2'])
  t.strictSame(found({ process: { openListeners: ['127.0.0.1:1'] } }), ['open-listener 1'])
  t.strictSame(found({ process: { ended: false, exitCode: null } }), ['grace 1'])
  t.strictSame(found({ process: { ended: false, exitCode: null, ignoredSignal: true } }), ['signal-ignored 1'])
  t.strictSame(found({ more: { streams: { opened: 4, ended: 1, truncated: 1, reset: 1, hung: 1 } } }), ['lost 3'])
  t.strictSame(found({ more: { webSockets: { opened: 3, closed: 1, codes: { 1001: 1 }, dropped: 1, hung: 1 } } }), ['lost 2'])
})

t.test('one verdict over all restarts', async t => {
  const { reasons, requests, lost } = judge([restart(), restart({ after: { hung: 1 } }), restart({ process: { exitCode: 3 } })], limits)
  t.equal(requests.answered, 330)
  t.equal(lost, 1)
  t.match(reasons, [{ rule: 'lost', message: '1 lost, and none is allowed: 1 no answer (hung)' }, { rule: 'exit-code', message: 'exit code 3 instead of 0' }])
})

t.test('the hint fits the largest class of losses, and losses before the signal have their own', async t => {
  const hint = (given: Given): string => judge([restart(given)], limits).reasons[0]!.hint
  t.match(hint({ after: { truncated: 3, hung: 1 } }), /Content-Length/)
  t.match(hint({ after: { hung: 3, truncated: 1 } }), /Reject new requests/)
  t.match(hint({ after: { resetBefore: 1 } }), /Wait for the last answer/)
  t.match(hint({ before: { resetBefore: 1 } }), /before the signal, too/)
  t.match(hint({ more: { streams: { ...noStreams(), opened: 1, truncated: 1 } } }), /stream/)
  t.match(hint({ more: { webSockets: { ...noWebSockets(), opened: 1, dropped: 1 } } }), /1001/)
})

t.test('notes', async t => {
  const notes = (given: Given): readonly string[] => judge([restart(given)], limits).notes
  t.strictSame(notes({}), [])
  t.match(notes({ more: { statuses: { before: { 200: 1 }, after: { 200: 1, 500: 2, 503: 1 } } } }), [/^2 requests got a status of 500 or above/])
  t.strictSame(notes({ more: { statuses: { before: { 500: 1 }, after: { 500: 2 } } } }), [])
  t.match(notes({ after: { retried: 1, acceptQueue: 2 } }), [/^1 request met/, /^2 new connections/])
  t.match(notes({ process: { exitCode: null } }), [/exit code is unknown/])
})

const everyClass: RequestCounts = Object.fromEntries(requestClasses.map((name, index) => [name, 11 + 13 * index])) as RequestCounts
const hostile = '</style><script>alert("1")</script>\u001b[31m`|*\u0000\ud800'
const full = resultOf([
  restart({ before: everyClass, after: everyClass, process: { orphans: [{ pid: 7, command: hostile }], exitCode: 1 } }),
  restart({
    process: { ended: false, exitCode: null, phases: { start: null, serving: null, draining: null, closing: null, total: null } },
    more: {
      marks: { signal: 2_000, end: null },
      failures: [{ atMs: 1, class: 'hung', method: 'GET', path: hostile, tookMs: 1, detail: 'no byte' }],
      streams: { opened: 3, ended: 1, truncated: 1, reset: 1, hung: 0 },
      webSockets: { opened: 2, closed: 1, codes: { 1001: 1 }, dropped: 1, hung: 0 }
    }
  })
], ['node', hostile])

t.test('all outputs have equal counts', async t => {
  const [plain, markdown, junit, html] = [formatPlain(full), formatMarkdown(full), formatJUnit(full), formatHtml(full, '')]
  for (const name of requestClasses) {
    const count = full.requests[name]
    t.equal(count, full.restarts.reduce((sum, { before, after }) => sum + before[name] + after[name], 0))
    t.match(plain, new RegExp(`^.+ ${count}$`, 'm'))
    t.match(markdown, new RegExp(`\\| ${count} \\|$`, 'm'))
    t.ok(junit.includes(`<property name="${name}" value="${count}"/>`))
    t.ok(html.includes(`<td class="number">${count}</td></tr>`))
  }
  const all = requestClasses.reduce((sum, name) => sum + full.requests[name], 0)
  for (const text of [plain, markdown, html]) t.ok(text.includes(`${full.lost} lost of ${all} requests`))
  t.ok(junit.includes(`<property name="lost" value="${full.lost}"/>`))
})

t.test('JUnit: one test for each rule, and one failure for each reason', async t => {
  const xml = formatJUnit(full)
  t.equal(xml.match(/<testcase /g)!.length, rules.length)
  t.equal(xml.match(/<failure /g)!.length, full.reasons.length)
  t.match(xml, `<testsuites name="shutdown drill" tests="8" failures="${full.reasons.length}" errors="0"`)
  // Every tag is closed in its order.
  const open: string[] = []
  for (const [, end, name, empty] of xml.matchAll(/<(\/?)([a-z]+)[^<>]*?(\/?)>/g)) {
    if (empty === '/') continue
    if (end === '') open.push(name!)
    else t.equal(open.pop(), name)
  }
  t.strictSame(open, [])
  // eslint-disable-next-line no-control-regex -- XML 1.0 does not allow them
  t.notMatch(xml, /[\u0000-\u0008\u000b\u000c\u000e-\u001f]|\p{Surrogate}/u)
  t.notOk(formatJUnit(resultOf([restart()])).includes('<failure'))
})

t.test('hostile text is text in every output', async t => {
  const html = formatHtml(full, '')
  t.equal(html.match(/<style>/g)!.length, 1)
  t.notOk(html.includes('<script'))
  const [, style] = /<style>(.*)<\/style>/s.exec(html)!
  t.ok(html.includes(`style-src 'sha256-${createHash('sha256').update(style!).digest('base64')}'`), 'the policy allows this style only')
  t.notOk(/\son\w+=|style="|https?:\/\/(?!127)/.test(html.replace(style!, '')))
  for (const text of [formatPlain(full), formatMarkdown(full)]) t.notMatch(text, '\u001b')
  t.notMatch(formatMarkdown(full).replace(/`` .* ``/, ''), /(?<!\\)<script/)
})

t.test('the page shows a chart for each restart, with its marks', async t => {
  const html = formatHtml(full, '')
  t.equal(html.match(/<svg /g)!.length, 2)
  t.equal(html.match(/class="mark signal"/g)!.length, 2)
  t.equal(html.match(/class="mark end"/g)!.length, 1)
  t.equal(html.match(/role="img" aria-label="/g)!.length, 2)
})

t.test('a drill that passed', async t => {
  const passed = resultOf([restart()])
  t.equal(formatPlain(passed).trim().split('\n').at(-1), 'verdict: passed, 0 lost of 130 requests')
  t.match(formatMarkdown(passed), /^## Shutdown drill: passed\n\n`node server\.js`, SIGTERM, grace period 30 s: 0 lost of 130 requests\.\n/)
  t.notMatch(formatHtml(passed, ''), 'Why it failed')
})

t.test('many restarts are listed up to a limit', async t => {
  const many = resultOf(Array.from({ length: 60 }, () => restart()))
  t.match(formatPlain(many), '\nand 50 more\n')
  t.match(formatMarkdown(many), 'And 40 more restarts.')
  t.equal(formatHtml(many, '').match(/<svg /g)!.length, 10)
})
