/** The verdict over all restarts: the reasons for a failure, each with a hint, and notes. */
import type { DrillOptions } from './arguments'
import { addRequests, classLabels, lostClasses, total, type RequestClass, type RequestCounts } from './classes'
import { hints } from './hints'
import type { Reason, Restart, Rule } from './result'
import { noStreams, type StreamCounts } from './streams'
import { noWebSockets, type WebSocketCounts } from './websockets'

/** The judgement of a drill. */
export interface Verdict {
  readonly requests: RequestCounts
  readonly streams: StreamCounts
  readonly webSockets: WebSocketCounts
  readonly lost: number
  readonly reasons: readonly Reason[]
  readonly notes: readonly string[]
}

/** Judges a drill. */
export function judge (
  restarts: readonly Restart[], { lost: allowed, graceMs, signal }: Pick<DrillOptions, 'lost' | 'graceMs' | 'signal'>
): Verdict {
  const requests = addRequests(restarts.flatMap(({ before, after }) => [before, after]))
  const streams = restarts.reduce((sum, restart) => addStreams(sum, restart.streams), noStreams())
  const webSockets = restarts.reduce((sum, restart) => addWebSockets(sum, restart.webSockets), noWebSockets())
  const lostStreams = streams.truncated + streams.reset + streams.hung
  const lostWebSockets = webSockets.dropped + webSockets.hung
  const lost = total(requests, lostClasses) + lostStreams + lostWebSockets
  const processes = restarts.map(restart => restart.process)
  const reasons: Reason[] = []
  const add = (rule: Rule, count: number, message: string, hint: string): void => {
    if (count > 0) reasons.push({ rule, count, message, hint })
  }

  if (lost > allowed) {
    const parts = [
      ...lostClasses.flatMap(name => requests[name] === 0 ? [] : [`${requests[name]} ${classLabels[name]}`]),
      ...lostStreams === 0 ? [] : [`${count(lostStreams, 'stream')} without an end`],
      ...lostWebSockets === 0 ? [] : [`${count(lostWebSockets, 'WebSocket')} without a close frame`]
    ]
    add(
      'lost', lost, `${lost} lost, and ${allowed === 0 ? 'none is' : `${allowed} are`} allowed: ${parts.join(', ')}`, lostHint(
        requests, lostStreams, restarts
      )
    )
  }
  const bare = requests.rejectedWithoutRetryAfter
  add('retry-after', bare, `${count(bare, 'answer')} 503 without Retry-After`, hints.retryAfter)

  const ended = processes.filter(each => each.ended)
  const codes = ended.filter(({ exitCode }) => exitCode !== null && exitCode !== 0).map(({ exitCode }) => exitCode!)
  add('exit-code', codes.length, `exit code ${unique(codes)} instead of 0`, hints.exitCode)
  const signals = ended.flatMap(each => each.signal ?? [])
  add(
    'ended-by-signal', signals.length, `${unique(signals)} ended the process, instead of the process itself`, hints.endedBySignal
  )
  const orphans = ended.flatMap(each => each.orphans)
  add(
    'orphan', orphans.length, `${count(orphans.length, 'process', 'processes')} left behind: ${unique(orphans.map(({ command }) => `'${command}'`))}`, hints.orphan
  )
  const open = processes.flatMap(each => each.openListeners)
  add('open-listener', open.length, `${unique(open)} still accepts connections`, hints.openListener)
  const running = processes.filter(each => !each.ended)
  const ignoring = running.filter(each => each.ignoredSignal)
  const time = `${graceMs / 1_000} s`
  add('grace', running.length - ignoring.length, `not over ${time} after ${signal}`, hints.grace)
  add(
    'signal-ignored', ignoring.length, `${signal} was ignored: the server served as before for ${time}`, hints.signalIgnored
  )

  return { requests, streams, webSockets, lost, reasons, notes: notes(restarts, requests) }
}

/** Chooses the hint for the largest class of losses. */
function lostHint (requests: RequestCounts, streams: number, restarts: readonly Restart[]): string {
  const earlier = addRequests(restarts.map(({ before }) => before))
  if (total(earlier, lostClasses) > 0) return hints.lostBefore
  const [largest] = [...lostClasses].sort((a, b) => requests[b] - requests[a]) as [RequestClass]
  if (requests[largest] > 0) return hints[largest as keyof typeof hints]
  return streams > 0 ? hints.streams : hints.webSockets
}

function notes (restarts: readonly Restart[], requests: RequestCounts): string[] {
  const failed = (statuses: Readonly<{ [status: string]: number }>): number =>
    Object.entries(statuses).reduce(
      (sum, [status, number]) => sum + (Number(status) >= 500 && status !== '503' ? number : 0), 0
    )
  const before = restarts.reduce((sum, { statuses }) => sum + failed(statuses.before), 0)
  const after = restarts.reduce((sum, { statuses }) => sum + failed(statuses.after), 0)
  const unknown = restarts.filter(
    each => each.process.ended && each.process.exitCode === null && each.process.signal === null
  )
  return [
    ...after > 0 && before === 0
      ? [
      `${count(after, 'request')} got a status of 500 or above after the signal, and none before: a resource may close too early`
        ]
      : [],
    ...requests.retried > 0
      ? [
      `${count(requests.retried, 'request')} met a connection that the server was closing, and one retry was answered`
        ]
      : [],
    ...requests.acceptQueue > 0
      ? [
      `${count(requests.acceptQueue, 'new connection')} reset in the accept queue of the closing listener`
        ]
      : [],
    ...unknown.length > 0 ? ['the exit code is unknown, because the drill did not start the process'] : []
  ]
}

function addStreams (a: StreamCounts, b: StreamCounts): StreamCounts {
  return {
    opened: a.opened + b.opened,
    ended: a.ended + b.ended,
    truncated: a.truncated + b.truncated,
    reset: a.reset + b.reset,
    hung: a.hung + b.hung
  }
}

function addWebSockets (a: WebSocketCounts, b: WebSocketCounts): WebSocketCounts {
  const codes = { ...a.codes }
  for (const [code, number] of Object.entries(b.codes)) codes[code] = (codes[code] ?? 0) + number
  return { opened: a.opened + b.opened, closed: a.closed + b.closed, codes, dropped: a.dropped + b.dropped, hung: a.hung + b.hung }
}

/** Formats a number with its noun. */
export function count (number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`
}

function unique (values: ReadonlyArray<string | number>): string {
  const all = [...new Set(values)]
  return `${all.slice(0, 5).join(', ')}${all.length > 5 ? ' and others' : ''}`
}
