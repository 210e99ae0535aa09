/** A report in words, which are the same in the text, in the SVG and on the page. */
import { firstLines, formatDate, formatDuration, listed, longestName } from './format'
import { cutsOf, type Bar } from './layout'
import { shorten } from './plain-text'
import type { CutData, ErrorData, ReportData } from './report-data'

/** Longest message of an error, in cells. */
const longestMessage = 400

/** Returns the outcome in one sentence: `Clean shutdown in 2.92 s, exit code 0`. */
export function headline ({ outcome, durationMs, exitCode }: ReportData): string {
  const word = { clean: 'Clean', forced: 'Forced', failed: 'Failed' }[outcome]
  return `${word} shutdown in ${formatDuration(durationMs)}, exit code ${exitCode}`
}

/** Returns what began the shutdown, and when: `signal SIGTERM, 2026-11-27 02:21:26 UTC`. */
export function beginning ({ reason, startedAt }: ReportData): string {
  const cause = joined([reason.kind, shorten(reason.detail, longestMessage)], ' ') || 'unknown reason'
  return joined([cause, formatDate(startedAt)], ', ')
}

/** Returns sentences about the traffic, and about each part that did not end well. */
export function summary (report: ReportData): string[] {
  const { requests: { completed, rejected, aborted }, tasks, resources, hooks, errors, criticalPath } = report
  const cuts = cutsOf(report)
  const closing = [...resources, ...hooks.map(hook => ({ ...hook, name: `${hook.hook} hook of ${hook.name}` }))]
  const named = (outcome: string): string[] => [
    ...closing.filter(step => step.outcome === outcome).map(step => step.name),
    ...tasks.filter(task => task.outcome === outcome).map(task => `task ${task.name}`)
  ]
  const sentences: Array<readonly [label: string, text: string]> = [
    ['Requests', `${completed} answered, ${rejected} rejected, ${aborted} aborted by their client`],
    ['Cut', cuts.length === 0 ? 'nothing' : cuts.join(', ')],
    ...(['forced', 'failed', 'abandoned', 'cancelled'] as const).map(
      outcome => [outcome[0]!.toUpperCase() + outcome.slice(1), listed(named(outcome), 5)] as const
    ),
    ['Errors', firstLines(errors, 1, errorLine).join(' ')],
    ['Critical path', listed(criticalPath, 8, ' → ')]
  ]
  return sentences.filter(([, text]) => text !== '').map(([label, text]) => `${label}: ${text}`)
}

/** Returns one line about a request that was cut. */
export function cutLine ({ method, route, ageMs, category, waitsFor }: CutData): string {
  const request = joined([method, route].map(word => shorten(word, 2 * longestName)), ' ') || 'a request'
  const details = [
    ageMs === null ? '' : `after ${formatDuration(ageMs)}`,
    category === '' ? '' : `category ${shorten(category, longestName)}`,
    waitsFor === 'app' ? 'waited for the app' : 'waited for its client'
  ]
  return `${request}: ${joined(details, ', ')}`
}

/** Returns one line about an error. */
export function errorLine ({ name, message, code }: ErrorData): string {
  return `${shorten(code === '' ? name : code, longestName)}: ${shorten(message, longestMessage)}`
}

/** Returns when a bar began, as text. */
export function startOf ({ startedMs }: Bar): string {
  if (startedMs === null) return 'unknown'
  return startedMs < 0 ? `${formatDuration(-startedMs)} before` : formatDuration(startedMs)
}

/** Returns one line about a bar: its name, outcome, times, and what it waited for. */
export function barLine (bar: Bar): string {
  const waited = bar.waitedFor.length === 0 ? '' : `, after ${listed(bar.waitedFor, 10)}`
  const error = bar.error === null ? '' : `. ${errorLine(bar.error)}`
  const times = `start ${startOf(bar)}, ${formatDuration(bar.durationMs)}`
  return `${shorten(bar.name, longestMessage)}: ${bar.outcome}, ${times}${waited}${error}`
}

/** Joins the words that are not empty. */
function joined (words: readonly string[], separator: string): string {
  return words.filter(word => word !== '').join(separator)
}
