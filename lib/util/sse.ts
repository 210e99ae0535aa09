/** The end marker of server-sent events (HTML standard, section 9.2). */
import type { SseOptions } from '../../types/index'
import { ShutdownOptionError, received } from '../errors'

/** The default end marker. `retry` is in milliseconds. */
export const endEvent = { event: 'end', data: { type: 'end', reason: 'shutdown' }, retry: 1_000 } as const

/**
 * Creates the end marker of a stream of server-sent events.
 *
 * @throws FST_ERR_SHUTDOWN_OPTION if the event's name contains a line break, `retry` is not a whole number >= 0, or
 *   JSON cannot represent `data`
 * @example
 * reply.header('content-type', 'text/event-stream').send(app.shutdown.stream(source, { end: sse() }))
 */
export function sse ({
  event = endEvent.event, data = endEvent.data, retry = endEvent.retry
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
