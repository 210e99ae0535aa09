/** Draws what was in flight over time as text, and what was cut. */
import type { Layout, Mark } from './layout'
import { pad, shorten } from './plain-text'
import type { InFlightData } from './report-data'

/** Gives a text a style, if there are colours. */
export type Paint = (style: Style, text: string) => string

/** What a colour stands for. */
export type Style = 'bold' | 'dim' | 'good' | 'forced' | 'failed' | 'critical'

/** Widths in cells. A row is: mark and name, plot, value, and what a resource has waited for. */
export interface Columns {
  readonly name: number
  readonly plot: number
  readonly value: number
  /** 0 in a narrow terminal. */
  readonly after: number
}

/** The characters for the heights of a cell. */
const levels = '▁▂▃▄▅▆▇█'

/** Draws one row per kind that was in flight. The height of a cell is the highest count in its time. */
export function drawInFlight (
  { inFlight, endMs, cut }: Layout, { name, plot, value }: Columns, paint: Paint
): string[] {
  if (inFlight.length === 0 && cut === null) return []
  const kinds = [['requests', 'requests'], ['streams', 'streams'], ['webSockets', 'WebSockets']] as const
  const drawn = kinds.flatMap(([field, label]) => {
    const most = inFlight.reduce((most, sample) => Math.max(most, sample[field]), 0)
    if (most === 0) return []
    const cells = mostPerCell(inFlight, field, endMs, plot)
    const line = cells.map(number => number === 0 ? ' ' : levels[Math.ceil(number / most * levels.length) - 1]).join('')
    return [`  ${pad(shorten(label, name - 2), name - 2)} ${line} ${shorten(`at most ${most}`, value)}`]
  })
  return ['', paint('bold', 'In flight'), ...drawn, ...(cut === null ? [] : [paint('forced', cutRow(cut))])]

  function cutRow ({ atMs, label }: Mark): string {
    const at = Math.min(plot - 1, Math.max(0, Math.round(atMs / endMs * plot) - 1))
    return `  ${pad('cut', name - 2)} ${`${' '.repeat(at)}x`.padEnd(plot)} ${shorten(label, value)}`
  }
}

function mostPerCell (
  samples: readonly InFlightData[], field: 'requests' | 'streams' | 'webSockets', endMs: number, plot: number
): number[] {
  const cells = new Array<number>(plot).fill(0)
  for (const [index, sample] of samples.entries()) {
    const from = Math.min(plot - 1, Math.floor(sample.atMs / endMs * plot))
    const until = Math.min(plot, Math.ceil((samples[index + 1]?.atMs ?? endMs) / endMs * plot))
    for (let cell = from; cell < Math.max(until, from + 1); cell++) cells[cell] = Math.max(cells[cell]!, sample[field])
  }
  return cells
}
