/** What a part of a shutdown does when it is called: it works, fails, or does not end. */
import type { Random } from './random'

/** `late` settles after every timeout. `twice` calls its callback twice, and is else like `works`. */
export type Kind = 'works' | 'works at once' | 'rejects' | 'throws' | 'never' | 'late'

export interface Behaviour {
  readonly kind: Kind
  /** How long it takes, in milliseconds. */
  readonly ms: number
}

const faults: readonly Kind[] = ['rejects', 'throws', 'never', 'late']

/** Longer than every shutdown of the simulation, in milliseconds. */
const forever = 10_000_000

/** Chooses a behaviour. @param faulty the probability of a fault */
export function behave (random: Random, faulty: number, longest: number): Behaviour {
  if (random.chance(faulty)) return { kind: random.pick(faults), ms: random.between(0, longest) }
  return random.chance(0.3) ? { kind: 'works at once', ms: 0 } : { kind: 'works', ms: random.between(0, longest) }
}

export function isFault ({ kind }: Behaviour): boolean {
  return faults.includes(kind)
}

/** Runs a behaviour in virtual time. */
export function run ({ kind, ms }: Behaviour, name: string): Promise<void> | undefined {
  if (kind === 'works at once') return undefined
  if (kind === 'throws') throw new Error(`${name} throws`)
  if (kind === 'never') return new Promise(() => {})
  return new Promise((resolve, reject) => {
    setTimeout(() => kind === 'rejects' ? reject(new Error(`${name} rejects`)) : resolve(), kind === 'late' ? ms + forever : ms)
  })
}
