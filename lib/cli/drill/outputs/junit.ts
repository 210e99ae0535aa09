/** The result as JUnit XML: one test case for each rule of the verdict. The counts are properties. */
import { escape } from '../../../timeline/plain-text'
import { rules, type DrillResult, type Rule } from '../result'
import { subject } from './rows'

/** Each rule as a test. */
const tests: Readonly<Record<Rule, string>> = {
  lost: 'no request is lost',
  'retry-after': 'every 503 has Retry-After',
  'exit-code': 'the exit code is 0',
  'ended-by-signal': 'the process ends by itself',
  orphan: 'no process is left behind',
  'open-listener': 'every listener is closed',
  grace: 'the process ends within the grace period',
  'signal-ignored': 'the signal is not ignored'
}

/** Formats the result as JUnit XML. */
export function formatJUnit (result: DrillResult): string {
  const { reasons, requests, lost, restarts, startedAt, durationMs } = result
  const seconds = (durationMs / 1_000).toFixed(3)
  const attributes = `tests="${rules.length}" failures="${reasons.length}" errors="0" time="${seconds}"`
  const name = escape(`shutdown drill: ${subject(result)}`)
  const properties = Object.entries({ ...requests, lost, restarts: restarts.length })
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="shutdown drill" ${attributes}>`,
    `  <testsuite name="${name}" ${attributes} skipped="0" timestamp="${startedAt.slice(0, 19)}">`,
    '    <properties>',
    ...properties.map(([name, value]) => `      <property name="${name}" value="${value}"/>`),
    '    </properties>',
    ...rules.flatMap(rule => {
      const reason = reasons.find(each => each.rule === rule)
      const time = rule === 'lost' ? seconds : '0'
      const open = `    <testcase classname="shutdown drill" name="${tests[rule]}" time="${time}"`
      if (reason === undefined) return [`${open}/>`]
      const failure = `<failure message="${escape(reason.message)}">${escape(reason.hint)}</failure>`
      return [`${open}>`, `      ${failure}`, '    </testcase>']
    }),
    '  </testsuite>',
    '</testsuites>',
    ''
  ].join('\n')
}
