/** Draws a layout as the elements of an SVG, for a wide and for a narrow screen. The colours are in `theme.ts`. */
import { formatDuration, formatTick } from './format'
import { drawInFlight } from './drawing-in-flight'
import { drawLegend } from './drawing-legend'
import { ticksOf, type Bar, type Dependency, type Group, type Layout } from './layout'
import { escape, shorten } from './plain-text'
import { fillOf } from './theme'
import { barLine } from './words'

/** Measures of a picture, in pixels. */
export interface Measures {
  readonly width: number
  /** Left and right end of the plot. */
  readonly left: number
  readonly right: number
  /** Height of a row, and of the bar in it. */
  readonly row: number
  readonly bar: number
  /** Distance from the top of a row to the top of its bar, and to the baseline of its text. */
  readonly barAt: number
  readonly textAt: number
  /** Right end of the durations, and left end of the outcomes. */
  readonly durationAt: number
  readonly outcomeAt: number | null
  /** Most characters of a name. */
  readonly name: number
  /** How many labels the axis has. */
  readonly ticks: number
}

/** Names stand at the left of the bars, times and outcomes at their right. */
export const wide: Measures = {
  width: 960, left: 232, right: 806, row: 22, bar: 12, barAt: 5, textAt: 15, durationAt: 876, outcomeAt: 886, name: 30, ticks: 8
}

/** Names, times and outcomes stand above the bars. */
export const narrow: Measures = {
  width: 358, left: 0, right: 358, row: 36, bar: 11, barAt: 20, textAt: 14, durationAt: 358, outcomeAt: null, name: 30, ticks: 4
}

/** A part of a picture, which begins at y = 0. */
export interface Drawing {
  readonly elements: readonly string[]
  readonly height: number
}

/** Draws everything but the title. */
export function draw (layout: Layout, measures: Measures): Drawing {
  const { left, right, row: rowHeight } = measures
  const x = scale(layout, measures)
  const elements: string[] = []
  const tops = new Map<Bar, number>()
  let y = 22
  const place = (group: Group): void => {
    if (group.bars.length + group.omitted === 0) return
    elements.push(title(group.title, y))
    y += 24
    for (const bar of group.bars) {
      tops.set(bar, y)
      elements.push(drawRow(bar, y, x, measures))
      y += rowHeight
    }
    if (group.omitted > 0) {
      elements.push(`<text x="0" y="${y + 15}" class="muted">and ${group.omitted} more, which are not drawn</text>`)
      y += 22
    }
    y += 10
  }

  place(layout.phases)
  const area = drawInFlight(layout, x, y, measures)
  elements.push(...area.elements)
  y += area.height
  layout.groups.forEach(place)
  const bottom = y - 4
  const legend = drawLegend(layout, bottom + 8, measures)
  return {
    elements: [
      ...bands(layout, x, bottom),
      ...axis(layout, x, bottom, measures),
      `<path d="M${left} 20.5H${right}" class="stroke line"/>`,
      ...layout.dependencies.map(dependency => connect(dependency, tops, x, measures)),
      ...elements,
      ...legend.elements
    ],
    height: bottom + 8 + legend.height
  }
}

/** Returns the position of a time, rounded to a tenth of a pixel. */
export type Scale = (ms: number) => number

function scale ({ endMs }: Layout, { left, right }: Measures): Scale {
  return ms => Math.round((left + Math.max(0, Math.min(ms / endMs, 1)) * (right - left)) * 10) / 10
}

function title (text: string, y: number): string {
  return `<text x="0" y="${y + 16}" class="group">${escape(text)}</text>`
}

/** Shades every second phase over the whole height. */
function bands ({ phases }: Layout, x: Scale, bottom: number): string[] {
  return phases.bars.flatMap(({ drawn }, index) => {
    if (drawn === null || index % 2 === 0) return []
    const [from, to] = [x(drawn.fromMs), x(drawn.toMs)]
    return [`<rect x="${from}" y="21" width="${round(to - from)}" height="${bottom - 21}" class="band"/>`]
  })
}

function axis ({ endMs }: Layout, x: Scale, bottom: number, { right, ticks }: Measures): string[] {
  const { step, times } = ticksOf(endMs, ticks)
  return times.flatMap((ms, index) => {
    const at = x(ms)
    const label = formatTick(ms, step)
    const anchor = index === 0 ? '' : at + label.length * 3.5 > right ? ' end' : ' middle'
    return [
      `<path d="M${at} 21V${bottom}" class="stroke line"/>`,
      `<text x="${at}" y="14" class="muted${anchor}">${label}</text>`
    ]
  })
}

/** Draws a name, a bar, and its duration and outcome. The browser shows the title when the pointer is on the row. */
function drawRow (bar: Bar, y: number, x: Scale, measures: Measures): string {
  const { width, durationAt, outcomeAt, textAt } = measures
  const isPlain = ['closed', 'completed', 'clean'].includes(bar.outcome) || bar.kind === 'phase'
  const duration = formatDuration(bar.durationMs)
  const values = outcomeAt === null
    ? `<text x="${durationAt}" y="${textAt}" class="end ${textColour(bar)}">${isPlain ? '' : `${bar.outcome} `}${duration}</text>`
    : `<text x="${durationAt}" y="${textAt}" class="end">${duration}</text>` +
      (isPlain ? '' : `<text x="${outcomeAt}" y="${textAt}" class="${textColour(bar)}">${bar.outcome}</text>`)
  return `<svg y="${y}" width="${width}" height="${measures.row}" overflow="hidden"><title>${escape(barLine(bar))}</title>` +
    `<rect width="${width}" height="${measures.row}" fill="none" pointer-events="all"/>` +
    `${drawName(bar, measures)}${drawBar(bar, x, measures)}${values}</svg>`
}

/** The inner SVG clips a name that is wider than its font promises. */
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

/** A line down from the end of one bar, and then right to the beginning of the other one. */
function connect (
  { from, to, isCritical }: Dependency, tops: ReadonlyMap<Bar, number>, x: Scale, { bar, barAt }: Measures
): string {
  const [fromY, toY] = [tops.get(from), tops.get(to)]
  if (fromY === undefined || toY === undefined || from.drawn === null || to.drawn === null) return ''
  const [start, end] = [x(from.drawn.toMs), x(to.drawn.fromMs)]
  const isDown = toY > fromY
  const startY = fromY + barAt + (isDown ? bar : 0)
  const classes = isCritical ? 'stroke critical" stroke-width="1.6' : 'stroke phase" stroke-width="1'
  // A bar that begins right behind the other one is met from above or below, and any other bar from the left.
  if (end - start < 5) return `<path d="M${end} ${startY}V${toY + barAt + (isDown ? 0 : bar)}" class="${classes}"/>`
  return `<path d="M${start} ${startY}V${toY + barAt + bar / 2}H${end}" class="${classes}"/>`
}

function round (pixels: number): number {
  return Math.round(pixels * 10) / 10
}
