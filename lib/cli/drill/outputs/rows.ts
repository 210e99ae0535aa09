/** The rows of the tables, which all outputs share. */
import { addRequests, classLabels, requestClasses, type RequestClass } from '../classes'
import type { DrillResult, Restart } from '../result'

/** A row of the table of requests. */
export interface RequestRow {
  readonly name: RequestClass
  readonly label: string
  readonly before: number
  readonly after: number
  readonly total: number
}

/** Returns the requests by class. Classes without a request are left out, except answered ones. */
export function requestRows ({ restarts, requests }: DrillResult): RequestRow[] {
  const before = addRequests(restarts.map(restart => restart.before))
  const after = addRequests(restarts.map(restart => restart.after))
  return requestClasses.flatMap(name => requests[name] === 0 && name !== 'answered'
    ? []
    : [{ name, label: classLabels[name], before: before[name], after: after[name], total: requests[name] }])
}

/** Returns how the process of a restart ended, in words. */
export function processWords ({ process: { ended, exitCode, signal, phases } }: Restart): string {
  if (!ended) return 'not over'
  const how = signal !== null ? `ended by ${signal}` : exitCode !== null ? `exit code ${exitCode}` : 'ended'
  return `${how} after ${ms(phases.total)}`
}

/** Returns the phases of a restart, in words. */
export function phaseWords ({ process: { phases } }: Restart): string {
  const named = { start: phases.start, serving: phases.serving, draining: phases.draining, closing: phases.closing }
  return Object.entries(named).flatMap(([name, time]) => time === null ? [] : [`${name} ${ms(time)}`]).join(', ')
}

/** Returns how streams and WebSockets ended, in words: one entry for each kind that was open. */
export function longLivedWords ({ streams, webSockets }: Pick<DrillResult, 'streams' | 'webSockets'>): string[] {
  const codes = Object.entries(webSockets.codes).map(([code, number]) => `${number} with code ${code}`)
  const withCodes = codes.length === 0 ? '' : ` (${codes.join(', ')})`
  const words: string[] = []
  if (streams.opened > 0) {
    const { opened, ended, truncated, reset, hung } = streams
    words.push(`streams: ${opened} open, ${ended} ended, ${truncated} truncated, ${reset} reset, ${hung} hung`)
  }
  if (webSockets.opened > 0) {
    const { opened, closed, dropped, hung } = webSockets
    words.push(`WebSockets: ${opened} open, ${closed} closed${withCodes}, ${dropped} dropped, ${hung} hung`)
  }
  return words
}

/** Formats a time in milliseconds or seconds; `null` as `-`. */
export function ms (time: number | null): string {
  if (time === null) return '-'
  return time >= 1_000 ? `${Math.round(time / 10) / 100} s` : `${Math.round(time)} ms`
}

/** Returns the command, or the URL of a running server. */
export function subject ({ options, restarts }: DrillResult): string {
  return options.command?.join(' ') ?? restarts[0]?.url ?? ''
}
