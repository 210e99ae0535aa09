/** Draws the legend: the colours and signs that are used in the picture. */
import { areas } from './drawing-in-flight'
import type { Layout } from './layout'
import type { Drawing, Measures } from './measures'
import { fillOf } from './theme'

interface Entry {
  readonly sign: 'box' | 'line' | 'cross' | 'earlier'
  readonly colour: string
  readonly label: string
}

/** Draws the entries in lines. */
export function drawLegend (layout: Layout, top: number, { width }: Measures): Drawing {
  const elements: string[] = []
  let [x, y] = [0, top + 14]
  for (const { sign, colour, label } of entriesOf(layout)) {
    const length = 16 + widthOf(label)
    if (x > 0 && x + length > width) [x, y] = [0, y + 20]
    elements.push(signs[sign](x, y, colour), `<text x="${x + 16}" y="${y}" class="muted">${label}</text>`)
    x += Math.round(length) + 16
  }
  return { elements, height: elements.length === 0 ? 0 : y - top + 8 }
}

/** Estimates the width of a label in a font of 12 pixels. */
function widthOf (label: string): number {
  return [...label].reduce((width, character) => width + (/[ fijlrt]/.test(character) ? 4.5 : 7.5), 0)
}

function entriesOf ({ groups, inFlight, cut, dependencies }: Layout): Entry[] {
  const bars = groups.flatMap(group => group.bars)
  const has = (fill: string): boolean => bars.some(bar => fillOf(bar) === fill)
  const some = (found: boolean, sign: Entry['sign'], colour: string, label: string): Entry[] =>
    found ? [{ sign, colour, label }] : []
  const labels = { requests: 'requests', streams: 'streams', webSockets: 'WebSockets' }
  return [
    ...areas.flatMap(area => some(inFlight.some(sample => sample[area] > 0), 'box', area, labels[area])),
    ...some(cut !== null, 'cross', 'forced', 'cut'),
    ...some(has('bar'), 'box', 'bar', 'ended in time'),
    ...some(bars.some(bar => bar.isCritical), 'box', 'critical', 'critical path'),
    ...some(has('forced'), 'box', 'forced', 'forced'),
    ...some(has('failed'), 'box', 'failed', 'failed or abandoned'),
    ...some(dependencies.some(({ isCritical }) => !isCritical), 'line', 'phase', 'waited for'),
    ...some(bars.some(bar => bar.isEarlier), 'earlier', 'bar', 'began before the shutdown')
  ]
}

const signs: Readonly<Record<Entry['sign'], (x: number, y: number, colour: string) => string>> = {
  box: (x, y, colour) => `<rect x="${x}" y="${y - 9}" width="10" height="10" rx="1.5" class="${colour}"/>`,
  line: (x, y, colour) => `<path d="M${x + 1} ${y - 9}v5h9" class="stroke ${colour}"/>`,
  cross: (x, y, colour) => `<path d="M${x + 1} ${y - 8}l8 8m0 -8l-8 8" class="stroke ${colour}" stroke-width="2"/>`,
  earlier: (x, y, colour) =>
    `<rect x="${x}" y="${y - 9}" width="10" height="10" rx="1.5" class="${colour}"/>` +
    `<path d="M${x + 6} ${y - 7.5}l-4 3.5l4 3.5" class="stroke paper" stroke-width="1.5"/>`
}
