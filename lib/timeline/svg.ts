/** A report as an SVG document: a title, the picture, and lists of what was cut and of the errors. */
import { draw } from './drawing'
import { firstLines } from './format'
import { layOut } from './layout'
import { wide } from './measures'
import { escape, shorten } from './plain-text'
import type { ReportData } from './report-data'
import { pictureStyle } from './theme'
import { beginning, cutLine, errorLine, headline, summary } from './words'

/** Most tasks, resources and hooks in the picture. */
export const mostBars = 80

/** Most lines of each list. */
const mostListed = 8

/** Characters of a line that fit in the width of the picture. */
const longestLine = 120

/** Space around the picture, in pixels. */
const margin = 20

/** Renders a report as an SVG document. It uses the colour scheme of the browser, and loads nothing. */
export function renderSvg (report: ReportData): string {
  const picture = draw(layOut(report, mostBars), wide)
  const colour = report.outcome === 'clean' ? 'good' : report.outcome
  const elements = [
    `<text x="0" y="18" class="title ${colour}">${escape(headline(report))}</text>`,
    `<text x="0" y="40" class="muted">${escape(shorten(beginning(report), longestLine))}</text>`,
    `<g transform="translate(0 58)">${picture.elements.join('\n')}</g>`
  ]
  let y = 58 + picture.height + 16
  for (const [title, lines] of [
    ['Summary', summary(report)],
    ['Requests that were cut', firstLines(report.requests.cut, mostListed, cutLine)],
    ['Errors', firstLines(report.errors, mostListed, errorLine)]
  ] as const) {
    if (lines.length === 0) continue
    elements.push(`<text x="0" y="${y + 14}" class="group">${title}</text>`)
    y += 20
    for (const line of lines) {
      elements.push(`<text x="0" y="${y + 14}">${escape(shorten(line, longestLine))}</text>`)
      y += 18
    }
    y += 12
  }
  const [width, height] = [wide.width + 2 * margin, y + margin]
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="${-margin} ${-margin} ${width} ${height + margin}" ` +
    `width="${width}" height="${height + margin}" class="timeline" role="img" ` +
    `aria-label="${escape(headline(report))}">\n` +
    `<style>${escapeStyle(pictureStyle)}</style>\n` +
    `<rect x="${-margin}" y="${-margin}" width="${width}" height="${height + margin}" class="paper"/>\n` +
    `${elements.join('\n')}\n</svg>\n`
}

/** Escapes the style sheet. Quotes need no escape in the text of an element. */
function escapeStyle (style: string): string {
  return style.replace(/[&<]/g, character => `&#${character.charCodeAt(0)};`)
}
