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

/** The requests by class. Classes without a request are left out, except answered ones. */
export function requestRows ({ restarts, requests }: DrillResult): RequestRow[] {
  const before = addRequests(restarts.map(restart => restart.before))
  const after = addRequests(restarts.map(restart => restart.after))
  return requestClasses.flatMap(name => requests[name] === 0 && name !== 'answered'
    ? []
    : [{ name, label: classLabels[name], before: before[name], after: after[name], total: requests[name] }])
}

/** How the process of a restart ended, in words. */
export function processWords ({ process: { ended, exitCode, signal, phases } }: Restart): string {
  if (!ended) return 'not over'
  const how = signal !== null ? `ended by ${signal}` : exitCode !== null ? `exit code ${exitCode}` : 'ended'
  return `${how} after ${ms(phases.total)}`
}

/** The phases of a restart, in words. */
export function phaseWords ({ process: { phases } }: Restart): string {
  const named = { start: phases.start, serving: phases.serving, draining: phases.draining, closing: phases.closing }
  return Object.entries(named).flatMap(([name, time]) => time === null ? [] : [`${name} ${ms(time)}`]).join(', ')
}

/** How streams and WebSockets ended, in words; one entry for each kind that was open. */
export function longLivedWords ({ streams, webSockets }: Pick<DrillResult, 'streams' | 'webSockets'>): string[] {
  const codes = Object.entries(webSockets.codes).map(([code, number]) => `${number} with code ${code}`)
  return [
    ...streams.opened === 0
      ? []
      : [
        `streams: ${streams.opened} open, ${streams.ended} ended, ${streams.truncated} truncated, ${streams.reset} reset, ${streams.hung} hung`
        ],
    ...webSockets.opened === 0
      ? []
      : [`WebSockets: ${webSockets.opened} open, ${webSockets.closed} closed${codes.length === 0 ? '' : ` (${codes.join(', ')})`}, ` +
        `${webSockets.dropped} dropped, ${webSockets.hung} hung`]
  ]
}

/** Formats a time. */
export function ms (time: number | null): string {
  if (time === null) return '-'
  return time >= 1_000 ? `${Math.round(time / 10) / 100} s` : `${Math.round(time)} ms`
}

/** The command, or the URL of a running server. */
export function subject ({ options, restarts }: DrillResult): string {
  return options.command?.join(' ') ?? restarts[0]?.url ?? ''
}
