/** What a part of a shutdown does when it is called: it works, fails, or does not end. */
import type { Random } from './random'

/**
 * `twice` settles a second time, as a failure, which must have no effect. `late` and `fails late` settle after every
 * timeout: when the report is published.
 */
export type Kind = 'works' | 'works at once' | 'twice' | 'rejects' | 'throws' | 'never' | 'late' | 'fails late'

export interface Behaviour {
  readonly kind: Kind
  /** How long it takes, in milliseconds. */
  readonly ms: number
}

const faults: readonly Kind[] = ['rejects', 'throws', 'never', 'late', 'fails late']
const stuck: readonly Kind[] = ['never', 'late', 'fails late']

/** Longer than every shutdown of the simulation, in milliseconds. */
const forever = 10_000_000

/** A behaviour without an effect. */
export const nothing: Behaviour = { kind: 'works at once', ms: 0 }

/** Chooses a behaviour. @param faulty the probability of a fault */
export function behave (random: Random, faulty: number, longest: number): Behaviour {
  const ms = random.between(0, longest)
  if (random.chance(faulty)) return { kind: random.pick(faults), ms }
  return random.chance(0.3) ? nothing : { kind: random.chance(0.15) ? 'twice' : 'works', ms }
}

export function isFault ({ kind }: Behaviour): boolean {
  return faults.includes(kind)
}

/** Returns whether it exceeds every timeout. */
export function isStuck ({ kind }: Behaviour): boolean {
  return stuck.includes(kind)
}

/** Runs a behaviour in virtual time. */
export function run (behaviour: Behaviour, name: string): PromiseLike<void> | undefined {
  const { kind } = behaviour
  if (kind === 'works at once') return undefined
  if (kind === 'throws') throw new Error(`${name} throws`)
  if (kind === 'twice') return { then: onSettled(behaviour, name) } as PromiseLike<void>
  return new Promise((resolve, reject) => {
    callBack(behaviour, name, error => error === undefined ? resolve() : reject(error))
  })
}

/** Runs a behaviour as a function with a callback does. */
export function callBack ({ kind, ms }: Behaviour, name: string, done: (error?: Error) => void): void {
  if (kind === 'never') return
  if (kind === 'works at once') return done()
  if (kind === 'throws') throw new Error(`${name} throws`)
  const failed = kind === 'rejects' || kind === 'fails late'
  const time = kind === 'late' || kind === 'fails late' ? ms + forever : ms
  setTimeout(() => {
    done(failed ? new Error(`${name} fails`) : undefined)
    if (kind === 'twice') done(new Error(`${name} is called twice`))
  }, time)
}

/** Returns the `then` of a value that settles twice: it calls both functions. */
function onSettled (behaviour: Behaviour, name: string) {
  return (resolve?: (value: undefined) => unknown, reject?: (error: unknown) => unknown): void => {
    callBack(behaviour, name, error => { error === undefined ? resolve?.(undefined) : reject?.(error) })
  }
}
