/**
 * Ending streams: when draining begins, the stream stops reading its source, sends its end marker and ends. By the
 * marker, the client recognises that the end is not a failure.
 */
import { Readable } from 'node:stream'
import type { StreamOptions, StreamSource } from '../../types/index'
import { ShutdownOptionError, received, toError } from '../errors'

/**
 * Creates an ending stream.
 *
 * @throws FST_ERR_SHUTDOWN_OPTION if the source cannot be read, or if the end marker has a wrong type
 */
export function endingStream (source: StreamSource, { end }: StreamOptions, signal: AbortSignal): Readable {
  if (end !== undefined && typeof end !== 'string' && typeof end !== 'function' && !(end instanceof Uint8Array)) {
    throw new ShutdownOptionError(
      `Expected the stream's 'end' to be a string, a Buffer or a function, got ${received(end)}`
    )
  }
  const chunks = iterate(source)
  let over = false

  const stream = new Readable({
    read () {
      void take()
    },
    destroy (error, callback) {
      leave()
      callback(error)
    }
  })
  if (signal.aborted) finish()
  else signal.addEventListener('abort', finish, { once: true })
  return stream

  // Not `Promise.race([next, aborted])`: each race would add a reaction to `aborted`, and they would never be freed.
  async function take (): Promise<void> {
    try {
      const { done, value } = await chunks.next()
      if (over) return
      if (done === true) {
        leave()
        stream.push(null)
      } else {
        stream.push(value)
      }
    } catch (error) {
      if (!over) stream.destroy(toError(error))
    }
  }

  function finish (): void {
    if (over) return
    leave()
    try {
      const marker = typeof end === 'function' ? end() : end
      if (marker !== undefined) stream.push(marker)
      stream.push(null)
    } catch (error) {
      stream.destroy(toError(error)) // If an abort listener throws, it is an uncaught exception.
    }
  }

  function leave (): void {
    if (over) return
    over = true
    signal.removeEventListener('abort', finish)
    // Not awaited, because the current `next()` of the source may never settle.
    void new Promise(resolve => { resolve(chunks.leave()) }).catch(() => {})
  }
}

interface Chunks {
  next(): Promise<IteratorResult<unknown>> | IteratorResult<unknown>
  leave(): unknown
}

/**
 * Returns the means to read a source and to close it. A stream is closed by `destroy()` or `cancel()`, because the
 * `return()` of its iterator waits for a chunk that may never come.
 */
function iterate (source: StreamSource): Chunks {
  if (source instanceof Readable) {
    const chunks: AsyncIterator<unknown> = source[Symbol.asyncIterator]()
    return { next: () => chunks.next(), leave: () => { source.destroy() } }
  }
  if (source instanceof ReadableStream) {
    const reader: ReadableStreamDefaultReader<unknown> = source.getReader()
    return { next: async () => await reader.read() as IteratorResult<unknown>, leave: () => reader.cancel() }
  }
  const chunks = iteratorOf(source)
  return { next: () => chunks.next(), leave: () => chunks.return?.() }
}

function iteratorOf (source: StreamSource): AsyncIterator<unknown> | Iterator<unknown> {
  const asyncSource = source as Partial<AsyncIterable<unknown>> | null
  if (typeof asyncSource?.[Symbol.asyncIterator] === 'function') return asyncSource[Symbol.asyncIterator]!()
  const syncSource = source as Partial<Iterable<unknown>> | null
  // A string and a Buffer are not a source: their iterators return characters and bytes.
  if (typeof source === 'object' &&
    !ArrayBuffer.isView(source) &&
    typeof syncSource?.[Symbol.iterator] === 'function') {
    return syncSource[Symbol.iterator]!()
  }
  throw new ShutdownOptionError(
    `Expected the stream's source to be a Readable, a ReadableStream or an (async) iterable, got ${received(source)}`
  )
}

/** The parts of an end marker for server-sent events. */
export interface SseOptions {
  /** The event's name. @default 'end' */
  readonly event?: string
  /** The event's data, as JSON. @default { type: 'end', reason: 'shutdown' } */
  readonly data?: unknown
  /** Time after which the client reconnects, in milliseconds (HTML standard, section 9.2.6). @default 1_000 */
  readonly retry?: number
}

/**
 * Creates the end marker of a stream of server-sent events.
 *
 * @throws FST_ERR_SHUTDOWN_OPTION if the event's name contains a line break, `retry` is not a whole number >= 0, or
 *   JSON cannot represent `data`
 * @example
 * reply.header('content-type', 'text/event-stream').send(app.shutdown.stream(source, { end: sse() }))
 */
export function sse ({
  event = 'end', data = { type: 'end', reason: 'shutdown' }, retry = 1_000
}: SseOptions = {}): string {
  if (typeof event !== 'string' || /[\r\n\0]/.test(event)) {
    throw new ShutdownOptionError(`Expected 'event' to be a single line, got ${received(event)}`)
  }
  if (!Number.isSafeInteger(retry) || retry < 0) {
    throw new ShutdownOptionError(`Expected 'retry' to be a whole number of milliseconds >= 0, got ${received(retry)}`)
  }
  const text: string | undefined = JSON.stringify(data)
  if (text === undefined) {
    throw new ShutdownOptionError(`Expected 'data' to be a value that JSON can represent, got ${received(data)}`)
  }
  return `event: ${event}\nretry: ${retry}\ndata: ${text}\n\n`
}
