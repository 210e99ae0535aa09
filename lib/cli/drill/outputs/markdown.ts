/** The result as Markdown, for the summary of a CI job. */
import type { DrillResult } from '../result'
import { longLivedWords, phaseWords, processWords, requestRows, subject } from './rows'

/** Most restarts that are listed. */
const mostListed = 20

/** Formats the result as Markdown. */
export function formatMarkdown (result: DrillResult): string {
  const { verdict, lost, options, reasons, notes, restarts } = result
  const rows = requestRows(result)
  const all = rows.reduce((sum, { total }) => sum + total, 0)
  return [
    `## Shutdown drill: ${verdict}\n`,
    `${code(subject(result))}, ${options.signal}, grace period ${options.grace} s: ${lost} lost of ${all} requests.\n`,
    ...reasons.length === 0
      ? []
      : [
          reasons.map(({ message, hint }) => `- **${escape(message)}.** ${escape(hint)}`).join('\n') + '\n'
        ],
    table(
      ['requests', 'before the signal', 'after the signal', 'total'], rows.map(
        ({ label, before, after, total }) => [label, before, after, total]
      )
    ),
    table(
      ['process', 'end', 'phases'], restarts.slice(0, mostListed).map(
        restart => [restart.process.pid, processWords(restart), phaseWords(restart)]
      )
    ),
    ...restarts.length > mostListed ? [`And ${restarts.length - mostListed} more restarts.\n`] : [],
    ...[...longLivedWords(result), ...notes].map(words => `- ${escape(words)}`)
  ].join('\n').trimEnd() + '\n'
}

function table (columns: readonly string[], rows: ReadonlyArray<ReadonlyArray<string | number>>): string {
  const row = (
    cells: ReadonlyArray<string | number>
  ): string => `| ${cells.map(cell => escape(String(cell))).join(' | ')} |\n`
  const numbers = columns.map((_, index) => rows.every(cells => typeof cells[index] === 'number'))
  return `${row(columns)}|${numbers.map(number => number ? '---:|' : '---|').join('')}\n${rows.map(row).join('')}`
}

function escape (text: string): string {
  return oneLine(text).replace(/[\\`*_[\]<>|#]/g, character => `\\${character}`)
}

/** Puts text into a code span, whatever it contains. */
function code (text: string): string {
  const inner = oneLine(text)
  const fence = '`'.repeat(Math.max(0, ...(inner.match(/`+/g) ?? []).map(ticks => ticks.length)) + 1)
  return fence.length === 1 ? `\`${inner}\`` : `${fence} ${inner} ${fence}`
}

function oneLine (text: string): string {
  return text.replace(/\p{Cc}+/gu, ' ')
}
