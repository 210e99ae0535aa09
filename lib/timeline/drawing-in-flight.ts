/** Draws what was in flight over time, as stacked areas with steps, and a mark for what was cut. */
import type { Layout } from './layout'
import type { Drawing, Measures, Scale } from './measures'
import { escape } from './plain-text'
import type { InFlightData } from './report-data'

/** Height of the areas, in pixels. */
const areaHeight = 56

/** The areas, from the lowest to the highest. */
export const areas = ['requests', 'streams', 'webSockets'] as const

/** Draws the areas. They are left out if nothing was in flight and nothing was cut. */
export function drawInFlight (layout: Layout, x: Scale, y: number, measures: Measures): Drawing {
  const { inFlight, mostInFlight, cut, endMs } = layout
  if (inFlight.length === 0 && cut === null) return { elements: [], height: 0 }
  const { left, right, durationAt, outcomeAt } = measures
  const top = y + (outcomeAt === null ? 26 : 8)
  const bottom = top + areaHeight
  const shapes = areas.filter(area => inFlight.some(sample => sample[area] > 0)).map(area => {
    const below = areas.slice(0, areas.indexOf(area))
    const height = (sample: InFlightData, names: readonly (typeof areas)[number][]): number =>
      names.reduce((sum, name) => sum + sample[name], 0)
    const at = (value: number): number => Math.round((bottom - value / mostInFlight * areaHeight) * 10) / 10
    const upper = step(inFlight, endMs, x, sample => at(height(sample, [...below, area])))
    const lower = step(inFlight, endMs, x, sample => at(height(sample, below)))
    return `<path d="M${upper.join('L')}L${lower.reverse().join('L')}Z" class="${area}"/>`
  })
  const most = inFlight.length === 0 ? 'not recorded' : `at most ${mostInFlight}`
  return {
    elements: [
      `<text x="0" y="${y + 18}" class="group">In flight</text>`,
      ...shapes,
      `<path d="M${left} ${bottom}H${right}" class="stroke bar"/>`,
      `<text x="${durationAt}" y="${y + 18}" class="end muted">${most}</text>`,
      ...(cut === null ? [] : drawCut(x(cut.atMs), cut.label, top, bottom, measures))
    ],
    height: bottom - y + 14
  }
}

/** Draws a dashed line with a cross. Its label is on the side with more room. */
function drawCut (at: number, label: string, top: number, bottom: number, { left, right }: Measures): string[] {
  const isLeft = at - left > right - at
  return [
    `<path d="M${at} ${top - 2}V${bottom}" class="stroke forced" stroke-width="1.5" stroke-dasharray="3 2"/>`,
    `<path d="M${at - 4} ${top - 4}l8 8m0 -8l-8 8" class="stroke forced" stroke-width="2"/>`,
    `<text x="${isLeft ? at - 9 : at + 9}" y="${top + 4}" class="forced${isLeft ? ' end' : ''}">${escape(label)}</text>`
  ]
}

/** Returns the points of a line that keeps each value until the next sample. */
function step (
  samples: readonly InFlightData[], endMs: number, x: Scale, y: (sample: InFlightData) => number
): string[] {
  return samples.flatMap((sample, index) => {
    const until = samples[index + 1]?.atMs ?? endMs
    return [`${x(sample.atMs)} ${y(sample)}`, `${x(until)} ${y(sample)}`]
  })
}
