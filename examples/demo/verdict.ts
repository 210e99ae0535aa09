/** The verdict, as a pure function: observations in, findings out. */

/** How one request ended, as its client saw it. */
export type Fate =
  /** A whole answer with a status below 400. */
  | 'answered'
  /** 503 with Retry-After. */
  | 'rejected'
  /** The connection was refused. The request was never sent, so another replica can take it. */
  | 'refused'
  /** A reset, half an answer, or an unexpected status. */
  | 'lost'

export interface Sent {
  /** Method and path, as in `GET /fast`. */
  readonly what: string
  readonly fate: Fate
  /** Whether it was sent after SIGTERM, or was in flight at SIGTERM. */
  readonly duringShutdown: boolean
  /** An error code or a status: why it was lost. */
  readonly why?: string
  readonly durationHeader?: string | undefined
}

export interface StreamSeen {
  /** Data events, without the end marker. */
  readonly events: number
  readonly end: 'all' | 'marker' | 'cut'
}

export interface WebSocketSeen {
  /** Code of the close frame; 1006 means that there was none. */
  readonly code: number
  /** Whether the service sent a last message before the close frame. */
  readonly hasMessage: boolean
}

export interface Seen {
  readonly sent: readonly Sent[]
  readonly streams: readonly StreamSeen[]
  readonly webSockets: readonly WebSocketSeen[]
  /** Ids of orders: acknowledged with 201, found as rows, found in Redis (`null` without Redis). */
  readonly orders: { readonly acknowledged: readonly string[], readonly rows: readonly string[], readonly cached: readonly string[] | null }
  /** Jobs that were accepted with 202, and their rows. */
  readonly jobs: { readonly accepted: readonly string[], readonly rows: readonly { readonly id: string, readonly steps: number, readonly state: string }[] }
  /** `outcome` is that of the service's own report, `null` if there is no report. */
  readonly exit: { readonly code: number | null, readonly signal: string | null, readonly afterMs: number, readonly outcome: string | null }
}

export interface Finding {
  readonly label: string
  readonly value: string
  readonly good: boolean
}

export interface Verdict {
  readonly good: boolean
  readonly findings: readonly Finding[]
}

export function judge ({ sent, streams, webSockets, orders, jobs, exit }: Seen): Verdict {
  const during = sent.filter(({ duringShutdown }) => duringShutdown)
  const lost = sent.filter(({ fate }) => fate === 'lost')
  const withoutDuration = sent.filter(({ fate, durationHeader }) => fate === 'answered' && !durationHeader)
  const count = (fate: Fate, list = sent): number => list.filter(each => each.fate === fate).length

  const missing = without(orders.acknowledged, orders.rows)
  const unheard = without(orders.rows, orders.acknowledged)
  const uncached = orders.cached === null ? [] : without(orders.acknowledged, orders.cached)
  const forgotten = without(jobs.accepted, jobs.rows.map(({ id }) => id))
  const finished = jobs.rows.filter(({ state, steps }) => state === 'finished' && steps === 10)
  const saved = jobs.rows.filter(({ state, steps }) => state === 'saved' && steps < 10)
  const cut = streams.filter(({ end }) => end === 'cut')

  const findings: Finding[] = [
    finding('answered', `${count('answered')} (${count('answered', during)} of them after SIGTERM)`, count('answered', during) > 0),
    finding('answers with X-Request-Duration', withoutDuration.length === 0 ? 'all' : `all but ${withoutDuration.length}`, withoutDuration.length === 0),
    finding('rejected with 503 and Retry-After', String(count('rejected')), true),
    finding('connection refused, never sent', String(count('refused')), true),
    finding('reset or lost', lost.length === 0 ? '0' : `${lost.length}: ${reasons(lost)}`, lost.length === 0),
    finding(
      'orders', `${orders.acknowledged.length} acknowledged, ${orders.rows.length} rows${difference(missing, 'acknowledged but not written')}${difference(unheard, 'written but not acknowledged')}`,
      orders.acknowledged.length > 0 && missing.length === 0 && unheard.length === 0
    ),
    finding('cache', orders.cached === null ? 'none: no Redis' : `${orders.cached.length} entries${difference(uncached, 'missing')}`, uncached.length === 0),
    finding(
      'streams', `${streams.length}: ${streams.map(({ events, end }) => `${events} events ${end === 'marker' ? 'and the end marker' : end === 'all' ? 'to the end' : 'and CUT'}`).join(', ')}`,
      streams.length > 0 && cut.length === 0
    ),
    finding(
      'WebSockets', `${webSockets.length}: ${webSockets.map(({ code, hasMessage }) => `${hasMessage ? 'a last message' : 'NO last message'}, then ${code}`).join(', ')}`,
      webSockets.length > 0 && webSockets.every(({ code, hasMessage }) => hasMessage && code === 1001)
    ),
    finding(
      'background jobs', `${jobs.accepted.length} accepted, ${finished.length} finished, ${saved.length} saved half-way${difference(forgotten, 'forgotten')}`,
      jobs.accepted.length > 0 && forgotten.length === 0 && finished.length + saved.length === jobs.accepted.length
    ),
    finding('exit code', exit.code === null ? `none, ended by ${exit.signal}` : String(exit.code), exit.code === 0),
    finding("the service's report", exit.outcome ?? 'none', exit.outcome === 'clean'),
    finding('from SIGTERM to exit', `${(exit.afterMs / 1_000).toFixed(2)} s`, true)
  ]
  return { good: findings.every(({ good }) => good), findings }
}

function finding (label: string, value: string, good: boolean): Finding {
  return { label, value, good }
}

function without (ids: readonly string[], others: readonly string[]): string[] {
  const known = new Set(others)
  return ids.filter(id => !known.has(id))
}

function difference (ids: readonly string[], word: string): string {
  return ids.length === 0 ? '' : `, ${ids.length} ${word} (${ids.slice(0, 3).join(', ')}${ids.length > 3 ? ', …' : ''})`
}

function reasons (lost: readonly Sent[]): string {
  const count = new Map<string, number>()
  for (const { what, why = 'unknown' } of lost) count.set(`${what} ${why}`, (count.get(`${what} ${why}`) ?? 0) + 1)
  return Array.from(count, ([reason, times]) => `${times} x ${reason}`).join(', ')
}
