/** Records the requests of one restart: counts before and after the signal, a histogram, and samples of failures. */
import { now } from '../../util/time'
import { lostClasses, noRequests, requestClasses, type RequestClass, type RequestCounts } from './classes'
import type { DrillRequest } from './connection'

/** Width of a bar of the histogram, in milliseconds. */
export const barMs = 100

/** Most failed requests that are listed. */
const mostSamples = 20

/** A failed request. */
export interface Sample {
  /** When it was sent, in milliseconds since the signal. */
  readonly atMs: number
  readonly class: RequestClass
  readonly method: string
  readonly path: string
  /** How long it took, in milliseconds. */
  readonly tookMs: number
  /** What the client saw, such as `reused connection: RST; retry: refused`. */
  readonly detail: string
}

/** A bar of the histogram: the requests that were sent in it. */
export interface Bar {
  /** The beginning of the bar, in milliseconds since the traffic began. */
  readonly atMs: number
  readonly counts: Partial<RequestCounts>
}

/** The requests of one restart. */
export interface Record {
  readonly before: RequestCounts
  readonly after: RequestCounts
  /** Statuses of complete answers, before and after the signal. */
  readonly statuses: { readonly before: StatusCounts, readonly after: StatusCounts }
  /** Milliseconds of `now()`; `null` if there was none. */
  readonly marks: Marks
  samples (): Sample[]
  bars (): Bar[]
  add (entry: Entry): void
  /** The signal is sent now. */
  signal (): void
}

/** Points in time after the signal. */
export interface Marks {
  readonly began: number
  readonly signal: number | null
  /** The first rejected request, or answer with `Connection: close` where answers had none before. */
  readonly leaving: number | null
  /** The first refused connection. */
  readonly refused: number | null
  /** The last complete answer. */
  readonly lastAnswer: number | null
  /** The last answer that is no 503, on a connection that stays open if it was to be reused. */
  readonly lastServed: number | null
}

type StatusCounts = { [status: string]: number }

/** A request that is over. */
export interface Entry {
  readonly request: DrillRequest
  readonly class: RequestClass
  readonly sentAt: number
  /** `null` without an answer. */
  readonly status: number | null
  readonly detail: string
  /** Whether the answer closes a connection that the client wanted to reuse. */
  readonly closes: boolean
}

/** Starts the record. */
export function startRecord (): Record {
  const began = now()
  const before = noRequests()
  const after = noRequests()
  const statuses = { before: {} as StatusCounts, after: {} as StatusCounts }
  const bars = new Map<number, Partial<RequestCounts>>()
  const failed: Array<Omit<Sample, 'atMs'> & { readonly sentAt: number }> = []
  let keptOpen = false
  let marks: Marks = { began, signal: null, leaving: null, refused: null, lastAnswer: null, lastServed: null }

  return {
    before,
    after,
    statuses,
    get marks () { return marks },
    signal () { marks = { ...marks, signal: now() } },
    add ({ request, class: name, sentAt, status, detail, closes }) {
      const time = now()
      const isAfter = marks.signal !== null
      const counts = isAfter ? after : before
      counts[name]++
      const at = Math.floor((sentAt - began) / barMs)
      const bar = bars.get(at) ?? {}
      bars.set(at, bar)
      bar[name] = (bar[name] ?? 0) + 1
      if (status !== null) {
        const some = statuses[isAfter ? 'after' : 'before']
        some[status] = (some[status] ?? 0) + 1
        marks = { ...marks, lastAnswer: time }
        if (status !== 503 && !closes) marks = { ...marks, lastServed: time }
      }
      if (!isAfter && !closes) keptOpen = true
      if (isAfter) {
        const leaves = name === 'rejected' || name === 'rejectedWithoutRetryAfter' || (closes && keptOpen)
        if (leaves && marks.leaving === null) marks = { ...marks, leaving: time }
        if (name === 'refused' && marks.refused === null) marks = { ...marks, refused: time }
      }
      if ((lostClasses.includes(name) || name === 'rejectedWithoutRetryAfter') && failed.length < mostSamples) {
        failed.push(
          { sentAt, class: name, method: request.method, path: request.path, tookMs: round(time - sentAt), detail }
        )
      }
    },
    samples: () => failed.map(
      ({ sentAt, ...sample }) => ({ atMs: round(sentAt - (marks.signal ?? began)), ...sample })
    ),
    bars: () => [...bars].sort(([a], [b]) => a - b).map(([at, counts]) => ({
      atMs: at * barMs,
      counts: Object.fromEntries(
        requestClasses.flatMap(name => counts[name] === undefined ? [] : [[name, counts[name]]])
      )
    }))
  }
}

/** Rounds milliseconds to one decimal place. */
export function round (ms: number): number {
  return Math.round(ms * 10) / 10
}
