/** Waits for the lines that a log has passed to its destinations and that are not written yet. */
import type { Writable } from 'node:stream'
import { destinationsOf, isWriting } from './node-internals'

/**
 * Resolves when the destinations of a log have written their lines. A buffer of the log itself must be flushed before.
 * Never rejects.
 */
export async function untilWritten (log: object): Promise<void> {
  await Promise.all(destinationsOf(log).map(hasWritten))
}

async function hasWritten (destination: object): Promise<void> {
  const stream = destination as Writable
  if (isWriting(stream)) {
    await new Promise<unknown>(resolve => {
      for (const event of ['drain', 'close', 'error']) stream.once(event, resolve)
    })
  } else if (stream.writableLength > 0 && !stream.writableObjectMode) {
    // Node calls the callback of an empty write after all earlier writes.
    await new Promise<unknown>(resolve => { stream.write('', resolve) })
  }
}
