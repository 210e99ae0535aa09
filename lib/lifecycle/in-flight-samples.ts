/** Samples of what is in flight during a shutdown, for the report. */
import type { InFlightSample } from '../../types/index'
import { every } from '../util/time'

/** The samples of one shutdown. */
export interface InFlightSamples {
  /** The samples so far. */
  readonly all: readonly InFlightSample[]
  /** Takes a sample, and goes on until `end`. */
  begin(): void
  /** Takes a sample now. A sample that equals the last one is not added. */
  take(): void
  /** Takes no more samples. */
  end(): void
}

/** Most samples of a report. */
const mostSamples = 200

/** First interval of the samples, in milliseconds. */
const firstInterval = 25

/**
 * Creates an empty list. It takes a sample every 25 milliseconds. When the list is full, every second sample is removed
 * and the interval doubles. So a shutdown of any length has at most 200 samples.
 *
 * @param read returns what is in flight now. A sample is left out if it returns nothing
 * @param elapsed returns the milliseconds since the shutdown began
 */
export function createInFlightSamples (
  read: () => Omit<InFlightSample, 'atMs'> | undefined, elapsed: () => number
): InFlightSamples {
  let samples: InFlightSample[] = []
  let interval = firstInterval
  let stop = (): void => {}

  return { get all () { return samples }, begin, take, end: () => stop() }

  function begin (): void {
    take()
    stop = every(interval, take)
  }

  function take (): void {
    const current = read()
    if (current === undefined) return
    const { requests, streams, webSockets } = current
    const last = samples.at(-1)
    if (last?.requests === requests && last.streams === streams && last.webSockets === webSockets) return
    if (samples.length === mostSamples) thin()
    samples.push({ atMs: elapsed(), requests, streams, webSockets })
  }

  function thin (): void {
    samples = samples.filter((_, index) => index % 2 === 0)
    interval *= 2
    stop()
    stop = every(interval, take)
  }
}
