/** Draws a layout as the elements of an SVG, for a wide and for a narrow screen. The colours are in `theme.ts`. */
import type { Dependency } from './dependencies'
import { drawInFlight } from './drawing-in-flight'
import { drawLegend } from './drawing-legend'
import { drawRow } from './drawing-row'
import { formatTick } from './format'
import { ticksOf, type Bar, type Group, type Layout } from './layout'
import { round, type Drawing, type Measures, type Scale } from './measures'
import { escape } from './plain-text'

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

function scale ({ endMs }: Layout, { left, right }: Measures): Scale {
  return ms => round(left + Math.max(0, Math.min(ms / endMs, 1)) * (right - left))
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

/** Draws a line down from the end of one bar, and then right to the beginning of the other one. */
function connect (
  { from, to, isCritical }: Dependency, tops: ReadonlyMap<Bar, number>, x: Scale, { bar, barAt }: Measures
): string {
  const [fromY, toY] = [tops.get(from), tops.get(to)]
  if (fromY === undefined || toY === undefined || from.drawn === null || to.drawn === null) return ''
  const [start, end] = [x(from.drawn.toMs), x(to.drawn.fromMs)]
  const isDown = toY > fromY
  const startY = fromY + barAt + (isDown ? bar : 0)
  const classes = isCritical ? 'stroke critical" stroke-width="1.6' : 'stroke phase" stroke-width="1'
  // If the second bar begins right after the first one, the line has no horizontal part.
  if (end - start < 5) return `<path d="M${end} ${startY}V${toY + barAt + (isDown ? 0 : bar)}" class="${classes}"/>`
  return `<path d="M${start} ${startY}V${toY + barAt + bar / 2}H${end}" class="${classes}"/>`
}
