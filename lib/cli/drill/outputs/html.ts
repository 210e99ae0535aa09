/** The result as a page: one file without scripts and without the network. */
import { createHash } from 'node:crypto'
import type { DrillResult, Restart } from '../result'
import { drawChart } from './chart'
import { escapeXml } from './escape'
import { longLivedWords, ms, phaseWords, processWords, requestRows, subject } from './rows'
import { drawServerTimeline } from './server-timeline'
import { style } from './style'

/** Most restarts with a chart. */
const mostCharts = 10

/** Formats the result as a page. @param output what the server has printed */
export function formatHtml (result: DrillResult, output: string): string {
  const { verdict, lost, options, requests, restarts, startedAt, durationMs } = result
  const all = Object.values(requests).reduce((sum, number) => sum + number, 0)
  const hash = createHash('sha256').update(style).digest('base64')
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-${hash}'; img-src data:; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Shutdown drill: ${verdict}</title>
<style>${style}</style>
</head>
<body>
<main>
<h1>Shutdown drill: <span class="${verdict}">${verdict}</span></h1>
<p><code>${escapeXml(subject(result))}</code></p>
<p>${lost} lost of ${all} requests. ${options.signal}, grace period ${options.grace} s.</p>
<p class="soft">${escapeXml(startedAt)}, took ${ms(durationMs)}, ${restarts.length} ${restarts.length === 1 ? 'restart' : 'restarts'}</p>
${reasons(result)}
<h2>Requests</h2>
${table(['class', 'before the signal', 'after the signal', 'total'], requestRows(result).map(row => [row.label, row.before, row.after, row.total]))}
${listOf([...longLivedWords(result), ...result.notes])}
${timeline(output)}
${restarts.slice(0, mostCharts).map((restart, index) => section(restart, index, restarts.length)).join('\n')}
<h2>Processes</h2>
${table(['pid', 'end', 'phases'], restarts.map(restart => [restart.process.pid, processWords(restart), phaseWords(restart)]))}
</main>
</body>
</html>
`
}

function reasons ({ reasons }: DrillResult): string {
  if (reasons.length === 0) return ''
  const items = reasons.map(
    ({ message, hint }) => `<li><strong>${escapeXml(message)}</strong><br>${escapeXml(hint)}</li>`
  )
  return `<h2>Why it failed</h2>\n<ul class="reasons">${items.join('')}</ul>`
}

function section (restart: Restart, index: number, count: number): string {
  const name = count === 1 ? 'Over time' : `Restart ${index + 1} of ${count}`
  const { failures } = restart
  const rows = failures.map(
    ({ atMs, method, path, class: kind, tookMs, detail }) => [
      `${atMs} ms`, `${method} ${path}`, kind, `${tookMs} ms`, detail
    ]
  )
  return [
    `<h2>${name}</h2>`,
    drawChart(restart, `${name}: requests by class over time. The tables have the same numbers.`),
    ...rows.length === 0
      ? []
      : [
          table(
            [
              'sent, from the signal', 'request', 'class', 'took', 'what the client saw'
            ], rows, `The first ${rows.length} requests that were lost or rejected without Retry-After`
          )
        ]
  ].join('\n')
}

function timeline (output: string): string {
  const drawn = drawServerTimeline(output)
  if (drawn === null) return ''
  const data = Buffer.from(drawn.svg).toString('base64')
  return [
    "<h2>The server's own report</h2>",
    '<div class="scroll" tabindex="0" role="region" aria-label="Timeline"><img class="timeline" alt="Timeline of the ' +
      `shutdown, as in the text below" src="data:image/svg+xml;base64,${data}"></div>`,
    `<details><summary>The same as text</summary><pre tabindex="0">${escapeXml(drawn.text)}</pre></details>`
  ].join('\n')
}

function table (columns: readonly string[], rows: ReadonlyArray<ReadonlyArray<string | number>>, caption = ''): string {
  const isNumber = columns.map((_, index) => rows.every(row => typeof row[index] === 'number'))
  const attribute = (index: number): string => isNumber[index] === true ? ' class="number"' : ''
  const head = columns.map((column, index) => `<th scope="col"${attribute(index)}>${escapeXml(column)}</th>`).join('')
  const body = rows.map(row => `<tr>${row.map((cell, index) => index === 0
    ? `<th scope="row"${attribute(index)}>${escapeXml(String(cell))}</th>`
    : `<td${attribute(index)}>${escapeXml(String(cell))}</td>`).join('')}</tr>`)
  const title = caption === '' ? '' : `<caption>${escapeXml(caption)}</caption>`
  return `<div class="scroll" tabindex="0" role="region" aria-label="${escapeXml(caption || columns.join(', '))}"><table>${title}<thead><tr>${head}</tr></thead><tbody>\n${body.join('\n')}\n</tbody></table></div>`
}

function listOf (items: readonly string[]): string {
  return items.length === 0 ? '' : `<ul>${items.map(item => `<li>${escapeXml(item)}</li>`).join('')}</ul>`
}
