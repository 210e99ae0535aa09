/** What a report says about work that was lost, and about everything that was not clean: one line for each. */
import type { ShutdownReport } from '../../types/index'

/** Lines about traffic that was cut, without tasks. */
function cutTraffic ({ requests, streams, webSockets }: ShutdownReport): string[] {
  return [
    ...requests.cut.map(({ method, route, waitsFor }) => {
      return `${method} ${route || '(no route)'} was cut while it waited for the ${waitsFor}`
    }),
    ...count(streams.cut, 'stream', 'cut'),
    ...count(webSockets.terminated, 'WebSocket', 'terminated')
  ]
}

/** Returns one line for each request, stream, WebSocket and task that did not end by itself. */
export function lossesOf (report: ShutdownReport): string[] {
  const tasks = report.tasks.filter(({ outcome }) => outcome === 'failed' || outcome === 'abandoned')
  return [
    ...cutTraffic(report),
    ...tasks.map(({ name, outcome }) => outcome === 'failed' ? `task '${name}' failed` : `task '${name}' was abandoned`)
  ]
}

/** Returns one line for each reason why the outcome of a report is not `clean`. */
export function blemishesOf (report: ShutdownReport): string[] {
  const { resources, http2Sessions, errors, phases } = report
  const lines = [
    ...cutTraffic(report),
    ...count(http2Sessions.destroyed, 'HTTP/2 session', 'destroyed'),
    ...resources.filter(({ outcome }) => outcome === 'forced').map(({ name }) => `resource '${name}' was forced`),
    // They also name each task, resource and hook that failed or was abandoned.
    ...errors.map(({ message }) => message)
  ]
  if (lines.length > 0) return lines
  return phases.filter(({ outcome }) => outcome !== 'clean')
    .map(({ phase, outcome }) => `phase ${phase} was ${outcome}`)
}

function count (number: number, what: string, how: string): string[] {
  if (number === 0) return []
  return [number === 1 ? `1 ${what} was ${how}` : `${number} ${what}s were ${how}`]
}
