/** The process of a simulation: its signals, its errors and its exit. The code of `lib/process/` takes it for the real one. */
import { EventEmitter } from 'node:events'

/** A simulated process. */
export interface SimulatedProcess {
  /** The calls of `process.exit()`, and the end by itself. */
  readonly exits: readonly Exit[]
  /** The exit code that is set. */
  readonly exitCode: number
  /** Replaces the real process. @returns a function that puts it back */
  enter (): () => void
  /** Adds another owner of the process, which listens to SIGTERM. */
  addOwner (listener: () => void): void
  /** Emits an event of the process. @returns whether there was a listener */
  emit (event: string, value: unknown): boolean
  /** How many listeners of ours an event has. */
  listeners (event: string): number
  /** Nothing keeps the process alive any more: it ends with its exit code. */
  endByItself (): void
}

export interface Exit {
  readonly code: number
  readonly at: number
}

/** The counter of signal-exit, which tap loads. Its listeners belong to the real process. */
const signalExit = Symbol.for('signal-exit emitter')

/** Creates a process that runs. @param now returns the milliseconds of the clock */
export function createProcess (now: () => number): SimulatedProcess {
  const events = new EventEmitter()
  events.setMaxListeners(0)
  const owners = new Set<() => void>()
  const exits: Exit[] = []
  const real = process
  const methods = [
    'on', 'once', 'off', 'addListener', 'prependListener', 'removeListener', 'listeners', 'listenerCount', 'emit'
  ] as const
  const own = Object.fromEntries(methods.map(name => [name, { value: events[name].bind(events) }]))
  const fake = Object.create(real, {
    ...own,
    exitCode: { value: undefined, writable: true },
    connected: { value: false },
    exit: { value: exit }
  }) as NodeJS.Process

  return {
    exits,
    get exitCode () { return Number(fake.exitCode ?? 0) },
    enter () {
      const counter = (globalThis as unknown as Record<symbol, { count: number } | undefined>)[signalExit]
      const count = counter?.count ?? 0
      if (counter !== undefined) counter.count = 0
      forgetMembers()
      globalThis.process = fake
      return () => {
        globalThis.process = real
        if (counter !== undefined) counter.count = count
        forgetMembers()
      }
    },
    addOwner (listener) {
      owners.add(listener)
      events.on('SIGTERM', listener)
    },
    emit: (event, value) => events.emit(event, value),
    listeners: event => events.listeners(event).filter(listener => !owners.has(listener as () => void)).length,
    endByItself () {
      events.emit('beforeExit')
      exit()
    }
  }

  /** Unlike the real one, it returns: the code behind it must not do harm. */
  function exit (): void {
    exits.push({ code: Number(fake.exitCode ?? 0), at: now() })
  }
}

/** Each simulation is a process of its own, so it has no members of an earlier one. */
function forgetMembers (): void {
  for (const key of Object.getOwnPropertySymbols(globalThis)) {
    if (key.description?.startsWith('fastify-shutdown.process.') === true) Reflect.deleteProperty(globalThis, key)
  }
}
