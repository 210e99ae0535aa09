/** Event streams (SSE) that are open at the signal, and how they end. */
import { every, now, sleep, within } from '../../util/time'
import { CannotRunError } from './cannot-run'
import type { Ending } from './classes'
import { createConnection, openSocket, type Exchange } from './connection'
import type { Target } from './target'

/** Streams, or WebSockets, per path. */
export const perPath = 2

/** How the streams that were open at the signal ended. */
export interface StreamCounts {
  /** Open at the signal. */
  opened: number
  /** The answer is complete. */
  ended: number
  /** The connection was closed within the answer. */
  truncated: number
  /** The connection was reset. */
  reset: number
  /** Open at the end of the drill. */
  hung: number
}

/** Open streams. */
export interface Streams {
  /** The signal is sent now. Streams are not opened again from here. */
  signal (): void
  /** Waits at most `ms` milliseconds for their end, and counts. */
  finish (ms: number): Promise<StreamCounts>
}

/** How often a stream that has ended before the signal is opened again, in milliseconds. */
const reopenInterval = 50

/** Longest wait for the head of an answer, in milliseconds. */
const headTimeout = 10_000

/** Returns counts of zero. */
export function noStreams (): StreamCounts {
  return { opened: 0, ended: 0, truncated: 0, reset: 0, hung: 0 }
}

/** Opens the streams. @throws CannotRunError if a path does not answer by an event stream */
export async function openStreams (target: Target, paths: readonly string[]): Promise<Streams> {
  const all = paths.flatMap(path => Array<string>(perPath).fill(path)).map(
    path => ({ path, exchange: null as Exchange | null, ending: null as Ending | null })
  )
  type Stream = typeof all[number]

  async function open (stream: Stream): Promise<void> {
    const socket = await openSocket(target.address)
    if ('kind' in socket) throw new CannotRunError(`GET ${stream.path}: the stream was ${socket.kind}`)
    const exchange = createConnection(socket).send(
      { method: 'GET', path: stream.path, headers: { accept: 'text/event-stream' } }, target.host, true
    )
    stream.exchange = exchange
    stream.ending = null
    void exchange.ended.then(ending => { stream.ending = ending })
    const deadline = now() + headTimeout
    while (exchange.head === null && stream.ending === null && now() < deadline) await sleep(5)
    const { status, headers } = exchange.head ?? {}
    if (status === 200 && /^text\/event-stream\b/i.test(headers?.get('content-type') ?? '')) return
    exchange.abandon()
    throw new CannotRunError(
      `GET ${stream.path} does not answer by a stream: ${status === undefined ? 'no answer' : `status ${status}, content-type ${headers?.get('content-type') ?? 'unknown'}`}`
    )
  }

  try {
    await Promise.all(all.map(open))
  } catch (error) {
    for (const { exchange } of all) exchange?.abandon()
    throw error
  }
  const reopen = every(reopenInterval, () => {
    for (const stream of all) {
      if (stream.ending === null) continue
      stream.ending = null
      open(stream).catch(() => { stream.ending = { kind: 'refused' } })
    }
  })
  let atSignal: Stream[] = []
  return {
    signal () {
      reopen()
      atSignal = all.filter(({ ending }) => ending === null)
    },
    async finish (ms) {
      reopen()
      await within(ms, () => Promise.all(atSignal.map(({ exchange }) => exchange!.ended)))
      for (const { exchange } of all) exchange?.abandon()
      await Promise.all(all.map(({ exchange }) => exchange?.ended))
      const counts = noStreams()
      for (const { ending } of atSignal) {
        counts.opened++
        counts[streamClass(ending!)]++
      }
      return counts
    }
  }
}

function streamClass (ending: Ending): 'ended' | 'truncated' | 'reset' | 'hung' {
  switch (ending.kind) {
    case 'answer': return 'ended'
    case 'pending': return 'hung'
    case 'reset': case 'refused': return 'reset'
    default: return 'truncated'
  }
}
