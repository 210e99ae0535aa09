/**
 * Virtual time: the timers of one simulation. What is due at the same time runs in a random order, one callback at a
 * time, and all promises settle in between.
 */
import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks'
import type { Random } from './random'

/** The clock of one simulation. */
export interface VirtualClock {
  /** Returns the milliseconds of the clock. */
  now (): number
  /** How many timers wait. */
  readonly waiting: number
  /** Replaces the timers of Node. @returns a function that puts them back */
  enter (): () => void
  /** Runs the next callback, and sets the clock to its time. @returns whether there was one at `until` or before */
  next (until: number): Promise<boolean>
}

interface Timer {
  due: number
  readonly interval: number | null
  readonly run: () => void
}

type Callback = (...args: unknown[]) => void

const immediate = setImmediate

/** Resolves when every promise that can settle has settled. */
export const settle = (): Promise<void> => new Promise(resolve => { immediate(resolve) })

/**
 * Disables each AsyncLocalStorage that was used since. Node passes the values of all of them to each promise, so ten
 * thousand simulations would be slow.
 *
 * @returns a function that disables them
 */
export function followStorages (): () => void {
  const { prototype } = AsyncLocalStorage
  const { run } = prototype
  const used = new Set<AsyncLocalStorage<unknown>>()
  prototype.run = function (this: AsyncLocalStorage<unknown>, ...args: Parameters<typeof run>) {
    used.add(this)
    return Reflect.apply(run, this, args) as unknown
  } as typeof run
  return () => {
    prototype.run = run
    for (const storage of used) storage.disable()
  }
}

/** Creates a clock that shows 0. */
export function createClock (random: Random): VirtualClock {
  let time = 0
  const timers = new Set<Timer>()
  /** Immediates run in their order, as in Node. */
  const immediates: { readonly run: () => void }[] = []

  function add (interval: boolean, callback: Callback, ms: number | undefined, args: unknown[]): object {
    const step = Math.max(1, Math.ceil(ms ?? 1))
    // As Node's timers, it keeps the values of AsyncLocalStorage.
    const run = AsyncResource.bind(() => callback(...args))
    const timer: Timer = { due: time + step, interval: interval ? step : null, run }
    timers.add(timer)
    // Code of Node and of the plugin calls `unref`.
    return Object.assign(timer, { unref: () => timer, ref: () => timer })
  }

  const replacements = {
    setTimeout: (callback: Callback, ms?: number, ...args: unknown[]) => add(false, callback, ms, args),
    setInterval: (callback: Callback, ms?: number, ...args: unknown[]) => add(true, callback, ms, args),
    setImmediate (callback: Callback, ...args: unknown[]) { immediates.push({ run: AsyncResource.bind(() => callback(...args)) }) },
    clearTimeout (timer: unknown) { timers.delete(timer as Timer) },
    clearInterval (timer: unknown) { timers.delete(timer as Timer) }
  }

  return {
    now: () => time,
    get waiting () { return timers.size + immediates.length },
    enter () {
      const { setTimeout, setInterval, setImmediate, clearTimeout, clearInterval } = globalThis
      const real = { setTimeout, setInterval, setImmediate, clearTimeout, clearInterval }
      Object.assign(globalThis, replacements)
      // An own property, which hides the method of the prototype.
      Object.defineProperty(performance, 'now', { value: () => time, configurable: true })
      return () => {
        Object.assign(globalThis, real)
        Reflect.deleteProperty(performance, 'now')
      }
    },
    async next (until) {
      let due = Infinity
      let first: Timer[] = []
      for (const timer of timers) {
        if (timer.due > due) continue
        if (timer.due < due) first = []
        due = timer.due
        first.push(timer)
      }
      if (immediates.length > 0 && (due > time || random.chance(0.5))) {
        immediates.shift()!.run()
      } else {
        if (first.length === 0 || due > until) return false
        time = due
        const timer = random.pick(first)
        if (timer.interval === null) timers.delete(timer)
        else timer.due += timer.interval
        timer.run()
      }
      await settle()
      return true
    }
  }
}
