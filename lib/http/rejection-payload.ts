/**
 * The payload of a 503, from any value that `errorResponseBuilder` returns. Fastify takes the status code and headers
 * of an Error or a Response, and its error handler gets the error of a stream. The status code of a rejection stays
 * 503, so these values become their bodies.
 */
import type { ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import type { ReadableStream as WebStream } from 'node:stream/web'
import { types } from 'node:util'
import { ShutdownOptionError } from '../errors'

/** Most bytes that are read of a stream. */
const mostBytes = 1_000_000

/** A payload that does not change the status code. */
export interface RejectionPayload {
  readonly payload: unknown
  /** The content type; `null` for Fastify's choice. */
  readonly type: string | null
}

/**
 * Turns a value into a payload. A stream is read whole, because it may fail, and the status code must be known then. An
 * Error becomes the body that Fastify's own error handler would send.
 *
 * @param res when it closes, the stream is destroyed
 * @throws the error of a stream, or FST_ERR_SHUTDOWN_OPTION if a stream has more than 1 000 000 bytes
 */
export function toPayload (value: unknown, res: ServerResponse): RejectionPayload | Promise<RejectionPayload> {
  if (typeof value !== 'object' || value === null) return { payload: value, type: null }
  if (types.isNativeError(value) || value instanceof Error) return { payload: bodyOf(value), type: null }
  if (isResponse(value)) return read(value.body, value.headers.get('content-type'), res)
  return isStream(value) ? read(value, null, res) : { payload: value, type: null }
}

function bodyOf (error: Error): object {
  const { code, message } = error as NodeJS.ErrnoException
  return {
    statusCode: 503, ...typeof code === 'string' ? { code } : {}, error: 'Service Unavailable', message: String(message)
  }
}

async function read (
  source: Readable | WebStream | null, type: string | null, res: ServerResponse
): Promise<RejectionPayload> {
  const chunks: Buffer[] = []
  if (source === null) return { payload: '', type }
  const stream = 'getReader' in source ? Readable.fromWeb(source) : source
  const stop = (): void => { stream.destroy() }
  res.once('close', stop)
  try {
    let size = 0
    for await (const chunk of stream) {
      chunks.push(Buffer.from(chunk))
      size += chunks.at(-1)!.length
      if (size > mostBytes) {
        throw new ShutdownOptionError(`Expected the body of a 503 to have at most ${mostBytes} bytes`)
      }
    }
  } finally {
    res.removeListener('close', stop)
  }
  return { payload: Buffer.concat(chunks), type }
}

/** Recognises a Response as Fastify does: it may be of another realm, or of the package undici. */
function isResponse (value: object): value is Response & { readonly body: WebStream | null } {
  return Object.prototype.toString.call(value) === '[object Response]'
}

function isStream (value: object): value is Readable | WebStream {
  const { pipe, getReader } = value as { pipe?: unknown, getReader?: unknown }
  return typeof pipe === 'function' || typeof getReader === 'function'
}
