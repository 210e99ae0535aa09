/**
 * The values of the metrics of several apps: phases, what is in flight, and counts of requests. Apps with equal labels
 * are summed, because several apps may share a registry.
 */
import type { Phase, ShutdownState } from '../../types/index'

/** Labels of all metrics of an app. */
export type Labels = Readonly<Record<string, string>>

/** The phases, in order. A test compares them with those of the lifecycle. */
export const phases = ['running', 'lame-duck', 'draining', 'cleaning', 'shutdown'] as const satisfies readonly Phase[]

/** Kinds of work in flight. */
export const kinds = ['request', 'stream', 'websocket', 'task'] as const

/** Outcomes of requests that are counted over the life of the app. */
export const counted = ['rejected', 'cut', 'aborted'] as const

type Values<K extends string> = Record<K, number>

/** The sums of the apps with the same labels. */
export interface Reading {
  readonly labels: Labels
  /** The number of apps in each phase: for one app 0 or 1. */
  readonly phases: Readonly<Values<Phase>>
  readonly inFlight: Readonly<Values<(typeof kinds)[number]>>
  /** Never decreases, not even when an app ends. */
  readonly requests: Readonly<Values<(typeof counted)[number]>>
}

/** The apps of one registry or meter. */
export interface Readings {
  /**
   * Adds an app. It replaces the apps with the same labels that have ended: their counts stay, their phase does not.
   *
   * @returns a function that marks the app as ended. Its last values stay until another app replaces it
   */
  add(labels: Labels, state: ShutdownState): () => void
  /** Reads all apps. The result has one item for each set of labels. */
  read(): Reading[]
}

type Sample = Omit<Reading, 'labels'>

interface Group {
  readonly labels: Labels
  /** The counts of the apps that were replaced. */
  readonly replaced: Values<(typeof counted)[number]>
  readonly apps: Set<App>
}

interface App {
  hasEnded: boolean
  read: () => Sample
}

/** Creates an empty list of apps. */
export function createReadings (): Readings {
  const groups = new Map<string, Group>()
  return {
    add (labels, state) {
      const group = groupOf(labels)
      for (const app of group.apps) {
        if (!app.hasEnded) continue
        const { requests } = app.read()
        for (const name of counted) group.replaced[name] += requests[name]
        group.apps.delete(app)
      }
      const app: App = { hasEnded: false, read: () => sampleOf(state) }
      group.apps.add(app)
      return () => {
        // A copy, so that the app can be collected as garbage.
        const last = app.read()
        app.read = () => last
        app.hasEnded = true
      }
    },
    read: () => Array.from(groups.values(), sumOf)
  }

  function groupOf (labels: Labels): Group {
    const key = JSON.stringify(Object.entries(labels).sort(([a], [b]) => a < b ? -1 : 1))
    let group = groups.get(key)
    if (group === undefined) {
      groups.set(key, group = { labels, replaced: { rejected: 0, cut: 0, aborted: 0 }, apps: new Set() })
    }
    return group
  }
}

function sumOf ({ labels, replaced, apps }: Group): Reading {
  const samples = Array.from(apps, app => app.read())
  const sum = (of: (sample: Sample) => number): number => samples.reduce((total, sample) => total + of(sample), 0)
  return {
    labels,
    phases: valuesOf(phases, phase => sum(sample => sample.phases[phase])),
    inFlight: valuesOf(kinds, kind => sum(sample => sample.inFlight[kind])),
    requests: valuesOf(counted, name => replaced[name] + sum(sample => sample.requests[name]))
  }
}

function sampleOf (state: ShutdownState): Sample {
  const { phase, stats } = state
  return {
    phases: valuesOf(phases, each => each === phase ? 1 : 0),
    inFlight: {
      request: state.activeRequests,
      stream: state.activeStreams,
      websocket: state.activeWebSockets,
      task: state.activeTasks
    },
    requests: valuesOf(counted, name => stats[name])
  }
}

function valuesOf<K extends string> (keys: readonly K[], valueOf: (key: K) => number): Values<K> {
  return Object.fromEntries(keys.map(key => [key, valueOf(key)])) as Values<K>
}
