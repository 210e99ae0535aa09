/** The result as text. */
import type { DrillResult } from '../result'
import { longLivedWords, phaseWords, processWords, requestRows } from './rows'

/** Most restarts that are listed. */
const mostListed = 10

/** Formats the result as text, with the verdict in the last lines. */
export function formatPlain (result: DrillResult): string {
  const rows = requestRows(result)
  const width = Math.max(...rows.map(({ label }) => label.length))
  const line = (label: string, ...cells: ReadonlyArray<string | number>): string =>
    `${label.padEnd(width)}${cells.map(cell => String(cell).padStart(9)).join('')}\n`
  const listed = result.restarts.slice(0, mostListed)
  const hidden = result.restarts.length - listed.length
  return clean([
    line('requests', 'before', 'after', 'total'),
    ...rows.map(({ label, before, after, total }) => line(label, before, after, total)),
    '\n',
    ...longLivedWords(result).map(words => `${words}\n`),
    ...listed.map(restart => `process ${restart.process.pid}: ${processWords(restart)} (${phaseWords(restart)})\n`),
    ...hidden > 0 ? [`and ${hidden} more\n`] : [],
    ...result.notes.map(note => `note: ${note}\n`),
    '\n',
    ...result.reasons.map(({ message, hint }) => `failed: ${message}\n        ${hint}\n`),
    `verdict: ${result.verdict}, ${result.lost} lost of ${rows.reduce((sum, { total }) => sum + total, 0)} requests\n`
  ].join(''))
}

/** Replaces control characters, which a terminal would obey. */
function clean (text: string): string {
  return text.replace(/\p{Cc}/gu, character => character === '\n' ? character : ' ')
}
