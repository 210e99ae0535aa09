/** Draws the requests of one restart over time, as stacked bars by class, with marks for the signal and the end. */
import { addRequests, classLabels, noRequests, requestClasses, total, type RequestCounts } from '../classes'
import { barMs } from '../record'
import { escape } from '../../../timeline/plain-text'
import type { Restart } from '../result'

/** Size of the picture, in its own units. */
const width = 960
const height = 260
const plot = { left: 46, right: 950, top: 34, bottom: 226 } as const

/** Most bars. A longer restart has wider bars. */
const mostBars = 150

/** Draws the picture. @param title names it for screen readers */
export function drawChart (restart: Restart, title: string): string {
  const { bars, marks } = restart
  const lengthMs = Math.max(...bars.map(bar => bar.atMs + barMs), marks.signal, marks.end ?? 0, 1_000)
  const stepMs = barMs * Math.ceil(lengthMs / barMs / mostBars)
  const grouped = new Map<number, RequestCounts>()
  for (const bar of bars) {
    const at = Math.floor(bar.atMs / stepMs) * stepMs
    grouped.set(at, addRequests([grouped.get(at) ?? noRequests(), { ...noRequests(), ...bar.counts }]))
  }
  const highest = niceMaximum(Math.max(1, ...[...grouped.values()].map(counts => total(counts))))
  const x = (ms: number): number => plot.left + ms / lengthMs * (plot.right - plot.left)
  const y = (count: number): number => plot.bottom - count / highest * (plot.bottom - plot.top)
  const used = requestClasses.filter(name => bars.some(bar => (bar.counts[name] ?? 0) > 0))

  const legend = used.map(name => `<li><span class="${name}"></span>${escape(classLabels[name])}</li>`)
  const stacks = [...grouped].flatMap(([at, counts]) => {
    let below = 0
    return used.flatMap(name => {
      if (counts[name] === 0) return []
      const top = y(below + counts[name])
      const rect = `<rect class="${name}" x="${number(x(at))}" y="${number(top)}" ` +
        `width="${number(Math.max(0.5, x(at + stepMs) - x(at) - 1))}" height="${number(y(below) - top)}"/>`
      below += counts[name]
      return [rect]
    })
  })
  return [
    '<div class="scroll" tabindex="0" role="group" aria-label="Chart">' +
      `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(title)}">`,
    ...[0, highest / 2, highest].map(count =>
      `<line class="grid" x1="${plot.left}" x2="${plot.right}" y1="${number(y(count))}" y2="${number(y(count))}"/>` +
      `<text class="axis" text-anchor="end" x="${plot.left - 8}" y="${number(y(count) + 4)}">${count}</text>`),
    ...ticks(lengthMs).map(ms =>
      `<text class="axis" text-anchor="middle" x="${number(x(ms))}" y="${plot.bottom + 18}">${ms / 1_000} s</text>`),
    ...stacks,
    ...drawMarks(restart, x),
    '</svg></div>',
    `<ul class="legend" aria-label="Colours">${legend.join('')}</ul>`,
    `<p class="caption">Requests per ${stepMs} ms, by the time at which they were sent.</p>`
  ].join('\n')
}

/** Draws the marks. The label of the signal stands at the left of its line, and that of the end where it has room. */
function drawMarks ({ marks: { signal, end } }: Restart, x: (ms: number) => number): string[] {
  const draw = (ms: number, label: string, side: 'left' | 'right', kind: string): string => {
    const [anchor, distance] = side === 'left' ? ['end', -6] : ['start', 6]
    const at = number(x(ms))
    const labelAt = number(x(ms) + distance)
    return `<line class="mark ${kind}" x1="${at}" x2="${at}" y1="${plot.top - 14}" y2="${plot.bottom}"/>` +
      `<text class="label" text-anchor="${anchor}" x="${labelAt}" y="${plot.top - 10}">${label}</text>`
  }
  return [
    draw(signal, 'signal', 'left', 'signal'),
    ...end === null ? [] : [draw(end, 'process ended', x(end) > plot.right - 100 ? 'left' : 'right', 'end')]
  ]
}

/** Returns the next of 2, 4, 10, 20, 40, 100, ... */
function niceMaximum (count: number): number {
  for (let power = 1; ; power *= 10) for (const factor of [2, 4, 10]) if (factor * power >= count) return factor * power
}

/** Returns the times of the axis: at most ten, in whole steps. */
function ticks (lengthMs: number): number[] {
  const step = [500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000].find(step => lengthMs / step <= 10) ?? lengthMs
  return Array.from({ length: Math.floor(lengthMs / step) + 1 }, (_, i) => i * step).filter(ms => ms < lengthMs * 0.97)
}

function number (value: number): string {
  return String(Math.round(value * 10) / 10)
}
