/** The message of the last log line of a shutdown. */
import type { ShutdownReport } from '../../types/index'

/** Longest line, in characters. */
const longestLine = 299

/** Most names in the line. Each one takes at least three characters: one, and a separator of two. */
const mostNames = Math.floor(longestLine / 3)

/** Longest name in the line, in characters. */
const longestName = 40

/**
 * Returns the outcome, the duration, the counts, and the names of what was cut, forced, failed or abandoned. The line
 * is shorter than 300 characters. The names that do not fit are counted.
 *
 * @example shutdown: forced in 3021 ms: 120 completed, 4 rejected; forced redis; cut GET /slow, GET /slow
 */
export function reportLine (report: ShutdownReport): string {
  const head = `shutdown: ${report.outcome} in ${Math.round(report.durationMs)} ms`
  const counts = countsOf(report)
  const start = counts === '' ? head : `${head}: ${counts}`
  const names = namesOf(report)
  for (let shown = Math.min(names.length, mostNames); shown > 0; shown--) {
    const more = names.length > shown ? ` and ${names.length - shown} more` : ''
    const line = `${start}; ${join(names.slice(0, shown))}${more}`
    if (line.length <= longestLine) return line
  }
  return names.length === 0 ? start : `${start}; ${names.length} cut, forced, failed or abandoned`.slice(0, longestLine)
}

function countsOf ({ requests, streams, webSockets, tasks }: ShutdownReport): string {
  const counts: [number, string][] = [
    [requests.completed, 'completed'],
    [requests.rejected, 'rejected'],
    [requests.aborted, 'aborted'],
    [streams.ended, 'streams ended'],
    [webSockets.closed, 'WebSockets closed'],
    [tasks.filter(({ outcome }) => outcome === 'completed').length, 'tasks completed']
  ]
  const counted = counts.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`)
  return counted.join(', ')
}

/** A part that did not end normally: what happened to it, and its name. */
type Named = readonly [verb: string, name: string]

function namesOf (report: ShutdownReport): Named[] {
  const { requests, streams, webSockets, http2Sessions, tasks, resources, hooks } = report
  const counted: [string, number, string][] = [
    ['cut', streams.cut, streams.cut === 1 ? 'stream' : 'streams'],
    ['terminated', webSockets.terminated, webSockets.terminated === 1 ? 'WebSocket' : 'WebSockets'],
    ['destroyed', http2Sessions.destroyed, http2Sessions.destroyed === 1 ? 'HTTP/2 session' : 'HTTP/2 sessions']
  ]
  return [
    ...resources.filter(({ outcome }) => outcome !== 'closed').map(({ outcome, name }): Named => [outcome, name]),
    ...hooks.filter(({ outcome }) => outcome !== 'closed')
      .map(({ outcome, name, hook }): Named => [outcome, `${hook} hook of ${name}`]),
    ...tasks.filter(({ outcome }) => outcome === 'failed' || outcome === 'abandoned')
      .map(({ outcome, name }): Named => [outcome, `task ${name}`]),
    ...counted.filter(([, count]) => count > 0).map(([verb, count, what]): Named => [verb, `${count} ${what}`]),
    ...requests.cut.map(({ method, route }): Named => ['cut', `${method} ${route}`]),
    ...errorsOf(report)
  ]
}

/** Returns the errors that are not of a resource, a hook or a task. */
function errorsOf ({ errors }: ShutdownReport): Named[] {
  return errors.filter(error => !('resource' in error) && !/^Task '.*' (?:failed|abandoned): /s.test(error.message))
    .map(({ message }): Named => ['error', message])
}

/** Joins the names. Names with the same verb share it: `cut GET /a, GET /b`. */
function join (names: readonly Named[]): string {
  let text = ''
  let last = ''
  for (const [verb, name] of names) {
    const separator = text === '' ? '' : verb === last ? ', ' : '; '
    text += `${separator}${verb === last ? '' : `${verb} `}${short(name)}`
    last = verb
  }
  return text
}

/** Shortens a name to one line. */
function short (name: string): string {
  const line = name.replace(/\p{Cc}+/gu, ' ')
  if (line.length <= longestName) return line
  // A character outside of the basic plane has two code units, which stay together.
  return `${line.slice(0, longestName - 1).replace(/[\ud800-\udbff]$/, '')}…`
}
