/** Finds the report of the last shutdown in a text: a report, an array, or the lines of a log in JSON. */
import { checkReport, fields, schemaVersion } from './check-report'
import type { ReportData } from './report-data'

/**
 * Returns the last report in the text, or `null` if there is none that this version can read. The text may be a report
 * as JSON, log lines of pino, an array of both, or any of these with other lines between. Never throws.
 */
export function readReport (text: string): ReportData | null {
  const found = findReport(text)
  return typeof found === 'string' ? null : found
}

/** Returns the last report in the text, or the reason why there is none. Never throws. */
export function findReport (text: string): ReportData | string {
  if (text.trim() === '') return 'the input is empty'
  const whole = parse(text.replace(/^\uFEFF/, ''))
  const texts = whole === undefined ? candidates(text) : []
  // From the end: only the last report is wanted, and a log may have many lines.
  let found = lastIn(whole)
  while (found === null && texts.length > 0) found = lastIn(parse(texts.pop()!))
  if (found === null) return 'no report of a shutdown found. Expected a report as JSON, or log lines in JSON'
  if (found === 'later') {
    return `the last report has a later schemaVersion than ${schemaVersion}. Update fastify-shutdown`
  }
  return found
}

/** Returns each part of the text that may be JSON with a report: single lines, and blocks of indented lines. */
function candidates (text: string): string[] {
  const found: string[] = []
  let blockAt = -1
  // Line by line, because an array of all lines may be larger than the memory.
  for (let at = 0, end = 0; at < text.length; at = end + 1) {
    end = text.indexOf('\n', at)
    if (end === -1) end = text.length
    const line = text.slice(at, end)
    if (line.includes('"phases"') && line.includes('}')) {
      // Logs of containers and journals may have a prefix in each line.
      found.push(line.slice(Math.max(0, line.search(/\{\s*"/)), line.lastIndexOf('}') + 1))
    } else if (/^[{[]\s*$/.test(line)) {
      blockAt = at
    } else if (blockAt >= 0 && /^[}\]]\s*$/.test(line)) {
      found.push(text.slice(blockAt, end))
      blockAt = -1
    }
  }
  return found
}

/** Returns the last report in a value: the value itself, an item of an array, or what a log line has in `shutdown`. */
function lastIn (value: unknown): ReportData | 'later' | null {
  for (const item of Array.isArray(value) ? value.toReversed() : [value]) {
    const report = checkReport(item) ?? checkReport(fields(item).shutdown)
    if (report !== null) return report
  }
  return null
}

function parse (text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
