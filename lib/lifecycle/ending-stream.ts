/**
 * Ending streams: when draining begins, the stream stops reading its source, sends its end marker and ends. By the
 * marker, the client recognises that the end is not a failure.
 *
 * The values of the source pass through unchanged, also objects, as @fastify/sse takes them. So the stream is in object
 * mode, and it reads at most two values in advance.
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
  if (end !== undefined && typeof end !== 'string' && typeof end !== 'function' && !isObject(end)) {
    throw new ShutdownOptionError(
      `Expected the stream's 'end' to be a string, a Buffer, an object or a function, got ${received(end)}`
    )
  }
  const chunks = iterate(source)
  let over = false
  /** Whether the consumer waits for a value. */
  let reading = false

  const stream = new EndingStream({
    objectMode: true,
    highWaterMark: 2, // Behind the last value, the end of the source is read in advance.
    read () {
      reading = true
      if (over) sendMarker()
      else void take()
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
        send(value)
      }
    } catch (error) {
      if (!over) stream.destroy(toError(error))
    }
  }

  function finish (): void {
    if (over) return
    leave()
    if (reading) sendMarker()
  }

  function sendMarker (): void {
    try {
      const marker: unknown = typeof end === 'function' ? end() : end
      if (marker !== undefined) send(marker)
      stream.push(null)
    } catch (error) {
      stream.destroy(toError(error)) // If an abort listener throws, it is an uncaught exception.
    }
  }

  function send (value: unknown): void {
    reading = false
    stream.send(value)
  }

  function leave (): void {
    if (over) return
    over = true
    signal.removeEventListener('abort', finish)
    // Not awaited, because the current `next()` of the source may never settle.
    void new Promise(resolve => { resolve(chunks.leave()) }).catch(() => {})
  }
}

/** A Readable that checks its values. A response throws for an object, and that would be an uncaught exception. */
class EndingStream extends Readable {
  /** Whether each destination may take objects. */
  private takesObjects = true

  override pipe<T extends NodeJS.WritableStream>(destination: T, options?: { end?: boolean }): T {
    const { writableObjectMode } = destination as { writableObjectMode?: boolean }
    // The response of HTTP/2 does not have this property.
    if (!(writableObjectMode ?? !('writeHead' in destination))) this.takesObjects = false
    return super.pipe(destination, options)
  }

  /** Passes on one value. @throws FST_ERR_SHUTDOWN_OPTION if the destination cannot take it */
  send (value: unknown): void {
    const isBytes = typeof value === 'string' || value instanceof Uint8Array
    if (value == null || (!isBytes && !this.takesObjects)) {
      const expected = this.takesObjects ? 'a value' : 'strings or Buffers, because a response takes no objects'
      throw new ShutdownOptionError(`Expected the stream to send ${expected}, got ${received(value)}`)
    }
    this.push(value instanceof Uint8Array && !Buffer.isBuffer(value)
      ? Buffer.from(value.buffer, value.byteOffset, value.byteLength)
      : value)
  }
}

function isObject (value: unknown): value is object {
  return typeof value === 'object' && value !== null
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
