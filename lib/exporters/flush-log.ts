/** Flushes the log before the process exits, so that no line is lost and the report is the last one. */
import type { FastifyBaseLogger } from 'fastify'
import { within } from '../util/time'
import { untilWritten } from '../util/until-written'

/** Longest time the flush may take, in milliseconds. */
const flushTimeout = 1_000

/**
 * Waits until the lines of a log are written: those in a buffer of pino, those that pino writes in the background, and
 * those in a stream of Node. Never rejects.
 */
export async function flushLog (log: FastifyBaseLogger): Promise<void> {
  await within(flushTimeout, async () => {
    await flushBuffer(log)
    await untilWritten(log)
  })
}

async function flushBuffer (log: FastifyBaseLogger): Promise<void> {
  const { flush } = log as { flush?: (callback: () => void) => void }
  if (typeof flush === 'function') await new Promise<void>(resolve => { flush.call(log, resolve) })
}
