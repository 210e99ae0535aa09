/** Draws one row of a picture: a name, a bar, its duration and its outcome. */
import { formatDuration } from './format'
import type { Bar } from './layout'
import { round, type Measures, type Scale } from './measures'
import { escape, shorten } from './plain-text'
import { fillOf } from './theme'
import { barLine } from './words'

/** Draws a name, a bar, and its duration and outcome. The browser shows the title when the pointer is on the row. */
export function drawRow (bar: Bar, y: number, x: Scale, measures: Measures): string {
  const { width, durationAt, outcomeAt, textAt } = measures
  const isPlain = ['closed', 'completed', 'clean'].includes(bar.outcome) || bar.kind === 'phase'
  const duration = formatDuration(bar.durationMs)
  const values = outcomeAt === null
    ? label(durationAt, `end ${textColour(bar)}`, isPlain ? duration : `${bar.outcome} ${duration}`)
    : label(durationAt, 'end', duration) + (isPlain ? '' : label(outcomeAt, textColour(bar), bar.outcome))
  return `<svg y="${y}" width="${width}" height="${measures.row}" overflow="hidden">` +
    `<title>${escape(barLine(bar))}</title>` +
    `<rect width="${width}" height="${measures.row}" fill="none" pointer-events="all"/>` +
    `${drawName(bar, measures)}${drawBar(bar, x, measures)}${values}</svg>`

  function label (at: number, classes: string, text: string): string {
    return `<text x="${at}" y="${textAt}" class="${classes}">${text}</text>`
  }
}

/** Draws the name. The inner SVG clips a name that is wider than its estimated width. */
function drawName ({ label, kind, isCritical }: Bar, { left, width, row, textAt, name }: Measures): string {
  const classes = ['name', ...(isCritical ? ['strong'] : []), ...(kind === 'phase' ? ['muted'] : [])].join(' ')
  const room = left === 0 ? width - 130 : left - 8
  return `<svg width="${room}" height="${row}" overflow="hidden">` +
    `<text x="0" y="${textAt}" class="${classes}">${escape(shorten(label, name))}</text></svg>`
}

function drawBar (bar: Bar, x: Scale, { bar: height, barAt, left, right }: Measures): string {
  if (bar.drawn === null) {
    return left === 0 ? '' : `<text x="${left + 4}" y="${barAt + 10}" class="muted">start unknown</text>`
  }
  const width = Math.max(2, round(x(bar.drawn.toMs) - x(bar.drawn.fromMs)))
  const from = Math.min(x(bar.drawn.fromMs), right - width)
  const middle = barAt + height / 2
  const shape = `<rect x="${from}" y="${barAt}" width="${width}" height="${height}" rx="1.5" class="${fillOf(bar)}"/>`
  // The bar is open to the left: it began before the picture.
  const earlier = bar.isEarlier
    ? `<path d="M${from + 6} ${middle - 3.5}l-4 3.5l4 3.5" class="stroke paper" stroke-width="1.5"/>`
    : ''
  const end = Math.min(from + width, right - 5)
  const cross = bar.severity === 'good' || bar.kind === 'phase'
    ? ''
    : `<path d="M${end - 4} ${middle - 4}l8 8m0 -8l-8 8" class="stroke paper" stroke-width="4.5"/>` +
      `<path d="M${end - 4} ${middle - 4}l8 8m0 -8l-8 8" class="stroke ${bar.severity}" stroke-width="2"/>`
  return shape + earlier + cross
}

function textColour ({ severity, kind }: Bar): string {
  return severity === 'good' || kind === 'phase' ? 'muted' : severity
}
