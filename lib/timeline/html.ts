/** A report as an HTML page that stands alone: the picture, what did not end well, and all data as tables. */
import { createHash } from 'node:crypto'
import { draw, narrow, wide, type Measures } from './drawing'
import { formatDuration } from './format'
import { layOut, type Bar, type Layout } from './layout'
import { escape, shorten } from './plain-text'
import type { ReportData } from './report-data'
import { pageStyle } from './page-style'
import { mostBars } from './svg'
import { beginning, cutLine, errorLine, headline, startOf, summary } from './words'

/** Most rows of a table, and most items of a list. A page with all of 100 000 tasks could not be used. */
const mostRows = 1_000

/** Most rows of a table that is not folded. */
const mostOpenRows = 100

/** Longest name in a table, in cells. */
const longestName = 200

/**
 * Renders a report as an HTML document. It has no script and loads nothing, and its content security policy forbids
 * both. It follows the light or dark scheme of the reader.
 */
export function renderHtml (report: ReportData): string {
  const title = headline(report)
  const layout = layOut(report, mostBars)
  const hash = createHash('sha256').update(pageStyle).digest('base64')
  const outcome = report.outcome === 'clean' ? 'good' : report.outcome
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>${escape(title)}</title>
<style>${pageStyle}</style>
</head>
<body>
<main>
<header>
<h1 class="${outcome}">${escape(title)}</h1>
<p class="beginning">${escape(beginning(report))}</p>
</header>
<dl class="summary">
${summary(report).map(definition).join('\n')}
</dl>
<section aria-labelledby="timeline">
<h2 id="timeline">Timeline</h2>
<p class="hint">The tables below have the same data as this picture.</p>
${picture(layout, wide, 'wide', title)}
${picture(layout, narrow, 'narrow', title)}
</section>
${list('cut', 'Requests that were cut', report.requests.cut.map(cutLine))}${list('errors', 'Errors', report.errors.map(errorLine))}${tables(report)}</main>
</body>
</html>
`
}

function definition (sentence: string): string {
  const [label = '', ...text] = sentence.split(': ')
  return `<div><dt>${escape(label)}</dt><dd>${escape(text.join(': '))}</dd></div>`
}

function picture (layout: Layout, measures: Measures, name: string, label: string): string {
  const { elements, height } = draw(layout, measures)
  return `<svg class="timeline ${name}" viewBox="0 0 ${measures.width} ${height}" role="img" ` +
    `aria-label="Timeline: ${escape(label)}">\n${elements.join('\n')}\n</svg>`
}

function list (id: string, title: string, lines: readonly string[]): string {
  if (lines.length === 0) return ''
  const more = lines.length - mostRows
  const items = more > 0 ? [...lines.slice(0, mostRows), `and ${more} more`] : lines
  return `<section aria-labelledby="${id}">
<h2 id="${id}">${title}</h2>
<ul>
${items.map(line => `<li>${bidi(escape(line))}</li>`).join('\n')}
</ul>
</section>
`
}

function tables (report: ReportData): string {
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
        'Name', 'Outcome', 'Start', 'Duration', ...(critical ? ['Critical path'] : []), ...(waits ? ['Waited for'] : []),
        ...(errors ? ['Error'] : [])
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
    `<tr><th scope="row">${first}</th>${others.map(cell => cell.startsWith('<td') ? cell : `<td>${cell}</td>`).join('')}</tr>`)
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

function number (text: string): string {
  return `<td class="number">${text}</td>`
}

/** A name in a script that is written from right to left does not change the direction of its line. */
function bidi (html: string): string {
  return `<bdi>${html}</bdi>`
}
