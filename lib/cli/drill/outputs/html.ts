/** The result as an HTML page. It has no script and loads nothing. */
import { renderDocument } from '../../../timeline/document'
import { escape } from '../../../timeline/plain-text'
import type { DrillResult, Restart } from '../result'
import { drawChart } from './chart'
import { longLivedWords, ms, phaseWords, processWords, requestRows, subject } from './rows'
import { drawServerTimeline } from './server-timeline'
import { style } from './style'

/** Most restarts with a chart. */
const mostCharts = 10

/** Formats the result as a page. @param output what the server has printed */
export function formatHtml (result: DrillResult, output: string): string {
  const { verdict, lost, options, requests, restarts, startedAt, durationMs } = result
  const all = Object.values(requests).reduce((sum, number) => sum + number, 0)
  const count = restarts.length
  const requestCells = requestRows(result).map(({ label, before, after, total }) => [label, before, after, total])
  const processCells = restarts.map(each => [each.process.pid, processWords(each), phaseWords(each)])
  const body = `<main>
<h1>Shutdown drill: <span class="${verdict}">${verdict}</span></h1>
<p><code>${escape(subject(result))}</code></p>
<p>${lost} lost of ${all} requests. ${options.signal}, grace period ${options.grace} s.</p>
<p class="soft">${escape(startedAt)}, took ${ms(durationMs)}, ${count} ${count === 1 ? 'restart' : 'restarts'}</p>
${reasons(result)}
<h2>Requests</h2>
${table(['class', 'before the signal', 'after the signal', 'total'], requestCells)}
${listOf([...longLivedWords(result), ...result.notes])}
${timeline(output)}
${restarts.slice(0, mostCharts).map((restart, index) => section(restart, index, count)).join('\n')}
<h2>Processes</h2>
${table(['pid', 'end', 'phases'], processCells)}
</main>`
  return renderDocument({ title: `Shutdown drill: ${verdict}`, style, body, hasImages: true })
}

function reasons ({ reasons }: DrillResult): string {
  if (reasons.length === 0) return ''
  const items = reasons.map(
    ({ message, hint }) => `<li><strong>${escape(message)}</strong><br>${escape(hint)}</li>`
  )
  return `<h2>Why it failed</h2>\n<ul class="reasons">${items.join('')}</ul>`
}

function section (restart: Restart, index: number, count: number): string {
  const name = count === 1 ? 'Over time' : `Restart ${index + 1} of ${count}`
  const { failures } = restart
  const columns = ['sent, from the signal', 'request', 'class', 'took', 'what the client saw']
  const rows = failures.map(({ atMs, method, path, class: kind, tookMs, detail }) =>
    [`${atMs} ms`, `${method} ${path}`, kind, `${tookMs} ms`, detail])
  const caption = `The first ${rows.length} requests that were lost or rejected without Retry-After`
  return [
    `<h2>${name}</h2>`,
    drawChart(restart, `${name}: requests by class over time. The tables have the same numbers.`),
    ...rows.length === 0 ? [] : [table(columns, rows, caption)]
  ].join('\n')
}

function timeline (output: string): string {
  const drawn = drawServerTimeline(output)
  if (drawn === null) return ''
  const data = Buffer.from(drawn.svg).toString('base64')
  // Each line by itself, because `escape` returns one line.
  const lines = drawn.text.split('\n').map(escape).join('\n')
  return [
    "<h2>The server's own report</h2>",
    '<div class="scroll" tabindex="0" role="region" aria-label="Timeline"><img class="timeline" alt="Timeline of the ' +
      `shutdown, as in the text below" src="data:image/svg+xml;base64,${data}"></div>`,
    `<details><summary>The same as text</summary><pre tabindex="0">${lines}</pre></details>`
  ].join('\n')
}

function table (columns: readonly string[], rows: ReadonlyArray<ReadonlyArray<string | number>>, caption = ''): string {
  const isNumber = columns.map((_, index) => rows.every(row => typeof row[index] === 'number'))
  const attribute = (index: number): string => isNumber[index] === true ? ' class="number"' : ''
  const head = columns.map((column, index) => `<th scope="col"${attribute(index)}>${escape(column)}</th>`).join('')
  const body = rows.map(row => `<tr>${row.map((cell, index) => index === 0
    ? `<th scope="row"${attribute(index)}>${escape(String(cell))}</th>`
    : `<td${attribute(index)}>${escape(String(cell))}</td>`).join('')}</tr>`)
  const title = caption === '' ? '' : `<caption>${escape(caption)}</caption>`
  const name = escape(caption || columns.join(', '))
  return `<div class="scroll" tabindex="0" role="region" aria-label="${name}"><table>${title}` +
    `<thead><tr>${head}</tr></thead><tbody>\n${body.join('\n')}\n</tbody></table></div>`
}

function listOf (items: readonly string[]): string {
  return items.length === 0 ? '' : `<ul>${items.map(item => `<li>${escape(item)}</li>`).join('')}</ul>`
}
