/**
 * What is observed while a shutdown runs: samples of what is in flight, and an event for each second of waiting, which
 * names what is pending.
 */
import type { InFlightSample } from '../../types/index'
import { every } from '../util/time'
import type { Containment } from './containment'
import { createInFlightSamples } from './in-flight-samples'
import type { ShutdownParts } from './shutdown-parts'

/** The observation of one shutdown. */
export interface Observation {
  /** The samples so far. */
  readonly samples: readonly InFlightSample[]
  /** Takes the first sample, and goes on until `end`. */
  begin(): void
  /** Takes a sample now. */
  takeSample(): void
  /** Ends the samples and the events. */
  end(): void
}

/** How often a waiting shutdown emits an event, in milliseconds. */
const waitingInterval = 1_000

/** Creates the observation of one shutdown. @param pending returns the names of what the shutdown waits for */
export function createObservation (
  { lifecycle, state, events }: Pick<ShutdownParts, 'lifecycle' | 'state' | 'events'>, contained: Containment,
  pending: () => string[]
): Observation {
  const samples = createInFlightSamples(readInFlight, lifecycle.elapsed)
  let stopWaiting = (): void => {}

  return {
    get samples () { return samples.all },
    begin () {
      stopWaiting = every(waitingInterval, () => { contained.run('waiting', emitWaiting) })
      samples.begin()
    },
    takeSample: samples.take,
    end () {
      stopWaiting()
      samples.end()
    }
  }

  function readInFlight (): Omit<InFlightSample, 'atMs'> | undefined {
    return contained.run('state', () => ({
      requests: state.activeRequests,
      streams: state.activeStreams,
      webSockets: state.activeWebSockets
    }))
  }

  function emitWaiting (): void {
    const { phase } = lifecycle
    const names = pending()
    if (names.length === 0 && phase !== 'cleaning') return
    const [elapsedMs, remainingMs] = [lifecycle.elapsed(), lifecycle.remaining()]
    events.emit({ type: 'waiting', phase, elapsedMs, remainingMs, pending: names })
  }
}
