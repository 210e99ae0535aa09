/** The data of a report as tables of HTML. */
import { formatDuration } from './format'
import { layOut, type Bar } from './layout'
import { escape, shorten } from './plain-text'
import type { ReportData } from './report-data'
import { errorLine, startOf } from './words'

/** Most rows of a table, and most items of a list, because a browser cannot show 100 000 tasks. */
export const mostRows = 1_000

/** Most rows of a table that is not folded. */
const mostOpenRows = 100

/** Longest name in a table, in cells. */
const longestName = 200

/** Returns all data of a report as tables. */
export function tables (report: ReportData): string {
  const { phases, groups } = layOut(report, mostRows)
  const { streams, webSockets, http2Sessions, sockets, inFlight } = report
  const traffic: ReadonlyArray<readonly [string, number]> = [
    ['Requests answered', report.requests.completed],
    ['Requests rejected', report.requests.rejected],
    ['Requests aborted by their client', report.requests.aborted],
    ['Requests cut', report.requests.cut.length],
    ['Streams ended', streams.ended],
    ['Streams cut', streams.cut],
    ['WebSockets closed', webSockets.closed],
    ['WebSockets terminated', webSockets.terminated],
    ['HTTP/2 sessions closed', http2Sessions.closed],
    ['HTTP/2 sessions destroyed', http2Sessions.destroyed],
    ['Connections closed while idle', sockets.idle],
    ['Connections closed before their first byte', sockets.silent],
    ['Connections destroyed with a response in flight', sockets.destroyed]
  ]
  return [
    ...[phases, ...groups].map(({ title, bars, omitted }) => {
      const waits = bars.some(bar => bar.waitedFor.length > 0)
      const errors = bars.some(bar => bar.error !== null)
      const critical = bars.some(bar => bar.isCritical)
      const columns = [
        'Name', 'Outcome', 'Start', 'Duration',
        ...(critical ? ['Critical path'] : []), ...(waits ? ['Waited for'] : []), ...(errors ? ['Error'] : [])
      ]
      return table(title, columns, bars.map(bar => cells(bar, critical, waits, errors)), omitted)
    }),
    table('Traffic', ['What', 'Count'], traffic.map(([name, count]) => [name, number(String(count))])),
    table(
      'In flight over time',
      ['From', 'Requests', 'Streams', 'WebSockets'],
      inFlight.slice(0, mostRows).map(sample => [
        formatDuration(sample.atMs),
        ...[sample.requests, sample.streams, sample.webSockets].map(count => number(String(count)))
      ]),
      Math.max(0, inFlight.length - mostRows)
    )
  ].join('')
}

function cells (bar: Bar, critical: boolean, waits: boolean, errors: boolean): string[] {
  const colour = bar.severity === 'good' ? '' : ` class="${bar.severity}"`
  return [
    `<code>${bidi(escape(shorten(bar.name.trim() === '' ? bar.label : bar.name, longestName)))}</code>`,
    `<span${colour}>${bar.outcome}</span>`,
    number(startOf(bar)),
    number(formatDuration(bar.durationMs)),
    ...(critical ? [bar.isCritical ? 'yes' : ''] : []),
    ...(waits
      ? [bar.waitedFor.slice(0, 20).map(name => `<code>${bidi(escape(shorten(name, 60)))}</code>`).join(', ') +
      (bar.waitedFor.length > 20 ? ` and ${bar.waitedFor.length - 20} more` : '')]
      : []),
    ...(errors ? [bar.error === null ? '' : bidi(escape(errorLine(bar.error)))] : [])
  ]
}

/**
 * A table, folded if it is long. Its region can be scrolled with the keyboard, because it may be wider than the screen.
 */
function table (title: string, columns: readonly string[], rows: readonly string[][], omitted = 0): string {
  if (rows.length === 0 && omitted === 0) return ''
  const id = `table-${title.toLowerCase().replaceAll(' ', '-')}`
  const head = columns.map(column => `<th scope="col">${column}</th>`).join('')
  const body = rows.map(([first = '', ...others]) =>
    `<tr><th scope="row">${first}</th>${others.map(toCell).join('')}</tr>`)
  const more = omitted === 0 ? '' : `<p>and ${omitted} more</p>\n`
  const content = `<div class="scroll" role="region" tabindex="0" aria-labelledby="${id}">
<table>
<thead><tr>${head}</tr></thead>
<tbody>
${body.join('\n')}
</tbody>
</table>
</div>
${more}`
  const isFolded = rows.length > mostOpenRows
  const heading = `<h2 id="${id}">${title}</h2>`
  return `<section>
${isFolded ? `<details>\n<summary>${heading}</summary>\n${content}</details>\n` : `${heading}\n${content}`}</section>
`
}

function toCell (html: string): string {
  return html.startsWith('<td') ? html : `<td>${html}</td>`
}

function number (text: string): string {
  return `<td class="number">${text}</td>`
}

/** Isolates a text, so that a name from right to left does not change the direction of its line. */
export function bidi (html: string): string {
  return `<bdi>${html}</bdi>`
}
