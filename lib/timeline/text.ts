/** A report as text for a terminal. It needs no colour, and no line is wider than the terminal. */
import { firstLines, formatDuration, formatTick, listed } from './format'
import { layOut, ticksOf, type Bar, type Group, type Layout } from './layout'
import { cellsOf, clean, pad, shorten, wrap } from './plain-text'
import type { ReportData } from './report-data'
import { drawInFlight, type Columns, type Paint, type Style } from './text-in-flight'
import { beginning, cutLine, errorLine, headline, summary } from './words'

/** Settings of the text. */
export interface TextOptions {
  /** Longest line, in cells. At least 20. @default 100 */
  readonly width?: number
  /** Whether the text has colours (ANSI escape sequences). @default false */
  readonly color?: boolean
}

/** Most tasks, resources and hooks in the text. */
const mostBars = 60

/** Most errors and most cut requests in the text. */
const mostListed = 10

const codes: Readonly<Record<Style, readonly [on: number, off: number]>> = {
  bold: [1, 22], dim: [2, 22], good: [32, 39], forced: [33, 39], failed: [31, 39], critical: [36, 39]
}

/** Renders a report as text that ends with a newline. Its last line has the outcome in words. */
export function renderText (report: ReportData, { width = 100, color = false }: TextOptions = {}): string {
  const paint: Paint = (style, text) => {
    const [on, off] = codes[style]
    return color && text !== '' ? `\u001b[${on}m${text}\u001b[${off}m` : text
  }
  const cells = Math.max(20, Math.floor(width) || 0)
  const layout = layOut(report, mostBars)
  const groups = [layout.phases, ...layout.groups]
  const columns = columnsOf(groups, cells)
  const severity = report.outcome === 'clean' ? 'good' : report.outcome
  return [
    ...wrap(`Shutdown: ${beginning(report)}`, cells).map(line => paint('bold', line)),
    '',
    paint('dim', axis(layout, columns)),
    ...rows(layout.phases, layout, columns, paint),
    ...drawInFlight(layout, columns, paint),
    ...layout.groups.flatMap(group => ['', ...rows(group, layout, columns, paint)]),
    ...list('Requests that were cut', firstLines(report.requests.cut, mostListed, cutLine), cells, paint),
    ...list('Errors', firstLines(report.errors, mostListed, errorLine), cells, paint),
    '',
    ...summary(report).flatMap(sentence => hang(sentence, cells)),
    ...wrap(headline(report), cells).map(line => paint(severity, paint('bold', line)))
  ].map(line => `${line.trimEnd()}\n`).join('')
}

function columnsOf (groups: readonly Group[], width: number): Columns {
  const bars = groups.flatMap(group => group.bars)
  const longest = (lengths: readonly number[]): number => lengths.reduce((most, length) => Math.max(most, length), 10)
  const longestLabel = longest(bars.map(bar => cellsOf(shorten(bar.label, 40))))
  const name = 2 + Math.min(longestLabel, Math.max(6, Math.floor(width / 3)))
  const value = Math.min(longest(bars.map(bar => valueOf(bar).length)), Math.max(1, width - name - 8))
  const waits = width >= 100 && bars.some(bar => bar.waitedFor.length > 0)
  const after = waits ? Math.min(24, longest(bars.map(bar => cellsOf(shorten(afterOf(bar), 24))))) : 0
  return { name, value, after, plot: Math.max(1, width - name - value - 2 - (after === 0 ? 0 : after + 1)) }
}

function axis ({ endMs }: Layout, { name, plot }: Columns): string {
  const { step, times } = ticksOf(endMs, Math.max(2, Math.floor(plot / 8)))
  let line = ''
  for (const ms of times) {
    const at = Math.min(plot - 1, Math.floor(ms / endMs * plot))
    const label = formatTick(ms, step)
    // The label of the last time may only fit on its left.
    if (line.length <= at && at + label.length + 1 <= plot) line = `${line.padEnd(at)}|${label}`
    else if (line.length + label.length < at) line = `${line.padEnd(at - label.length)}${label}|`
  }
  return `${' '.repeat(name + 1)}${line}`
}

function rows (group: Group, layout: Layout, columns: Columns, paint: Paint): string[] {
  if (group.bars.length + group.omitted === 0) return []
  const title = group.bars.some(bar => bar.isCritical) ? `${group.title} (* critical path)` : group.title
  const width = columns.name + columns.plot + columns.value + 2
  return [
    paint('bold', shorten(title, width)),
    ...group.bars.map(bar => row(bar, layout, columns, paint)),
    ...(group.omitted === 0 ? [] : [paint('dim', shorten(`  and ${group.omitted} more`, width))])
  ]
}

function row (bar: Bar, { endMs }: Layout, { name, plot, value, after }: Columns, paint: Paint): string {
  const style = styleOf(bar)
  const label = `${bar.isCritical ? '*' : ' '} ${pad(shorten(bar.label, name - 2), name - 2)}`
  const text = pad(shorten(valueOf(bar), value), value)
  return [
    bar.isCritical ? paint('bold', label) : label,
    style === null ? drawBar(bar, endMs, plot) : paint(style, drawBar(bar, endMs, plot)),
    bar.severity === 'good' ? text : paint(bar.severity, text),
    ...(after === 0 || bar.waitedFor.length === 0 ? [] : [paint('dim', shorten(afterOf(bar), after))])
  ].join(' ')
}

function afterOf ({ waitedFor }: Bar): string {
  return waitedFor.length === 0 ? '' : `after ${listed(waitedFor, 10)}`
}

/** Draws a bar of at least one cell. `<`: it began before the shutdown. `x`: it was forced, failed or abandoned. */
function drawBar ({ kind, drawn, isEarlier, severity }: Bar, endMs: number, plot: number): string {
  if (drawn === null) return ' '.repeat(plot)
  const from = Math.min(plot - 1, Math.floor(drawn.fromMs / endMs * plot))
  const to = Math.max(from + 1, Math.min(plot, Math.round(drawn.toMs / endMs * plot)))
  const bar = [...'█'.repeat(to - from)]
  if (isEarlier) bar[0] = '<'
  if (severity !== 'good' && kind !== 'phase') bar[bar.length - 1] = 'x'
  return `${' '.repeat(from)}${bar.join('')}`.padEnd(plot)
}

function valueOf ({ durationMs, outcome, kind }: Bar): string {
  const isPlain = ['closed', 'completed', 'clean'].includes(outcome)
  const duration = formatDuration(durationMs)
  // The outcome of a phase is that of its parts, which have rows of their own.
  return isPlain || kind === 'phase' ? duration : `${duration} ${outcome}`
}

function styleOf ({ kind, severity, isCritical }: Bar): Style | null {
  if (kind === 'phase') return 'dim'
  if (severity !== 'good') return severity
  return isCritical ? 'critical' : null
}

function list (title: string, lines: readonly string[], width: number, paint: Paint): string[] {
  if (lines.length === 0) return []
  return [
    '',
    ...wrap(title, width).map(line => paint('bold', line)),
    ...lines.flatMap(line => wrap(line, width - 2).map(part => `  ${part}`))
  ]
}

/** Wraps a sentence. The lines after the first one are indented. */
function hang (sentence: string, width: number): string[] {
  const [first = '', ...others] = wrap(clean(sentence), width - 2)
  return [first, ...others.map(line => `  ${line}`)]
}
