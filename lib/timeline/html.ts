/** A report as an HTML page in one file: the picture, the cuts and errors, and all data as tables. */
import { renderDocument } from './document'
import { draw } from './drawing'
import { firstLines } from './format'
import { layOut, type Layout } from './layout'
import { narrow, wide, type Measures } from './measures'
import { pageStyle } from './page-style'
import { escape } from './plain-text'
import type { ReportData } from './report-data'
import { mostBars } from './svg'
import { bidi, mostRows, tables } from './tables'
import { beginning, cutLine, errorLine, headline, summary } from './words'

/**
 * Renders a report as an HTML document. It has no script and loads nothing, and its content security policy forbids
 * both. It uses the colour scheme of the browser, light or dark.
 */
export function renderHtml (report: ReportData): string {
  const title = headline(report)
  const layout = layOut(report, mostBars)
  const outcome = report.outcome === 'clean' ? 'good' : report.outcome
  const cut = firstLines(report.requests.cut, mostRows, cutLine)
  const errors = firstLines(report.errors, mostRows, errorLine)
  const body = `<main>
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
${list('cut', 'Requests that were cut', cut)}${list('errors', 'Errors', errors)}${tables(report)}</main>`
  return renderDocument({ title, style: pageStyle, body })
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
  return `<section aria-labelledby="${id}">
<h2 id="${id}">${title}</h2>
<ul>
${lines.map(line => `<li>${bidi(escape(line))}</li>`).join('\n')}
</ul>
</section>
`
}
