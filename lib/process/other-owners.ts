/**
 * Other owners of the process: code that listens to the same signals and errors, such as NestJS, a crash reporter or a
 * hand-written `process.on('SIGTERM')`. The process does not exit while they may still work.
 */
import { isCloseWithGrace, isFastifyCli, replaceFastifyCli } from './fastify-cli'
import { isTestRunner } from './platform'

/**
 * The counters of signal-exit 4 and 3. It has one listener per signal and copy, which does nothing beside another one.
 */
const signalExitKeys = [
  [globalThis, Symbol.for('signal-exit emitter')], [process, '__signal_exit_emitter__']
] as const

/**
 * Returns how many other listeners an event of the process has. Those of signal-exit do not count, because it does its
 * work in the 'exit' event.
 *
 * @param ours our own listener
 */
export function countOthers (event: string, ours: (value: never) => void): number {
  return othersOf(event, ours).length - countSignalExit(event)
}

/** It is logged once, because close-with-grace listens to each signal. */
const closeWithGraceWarning =
  'close-with-grace ends the process when its own delay is over (10 s by default, 500 ms after `fastify eject`), ' +
  'also if requests are in flight. Remove it, because the plugin closes the app at the same signals'

/** What is known about the other owners when the app is ready. The log contains it once. */
export interface OtherOwners {
  /** Facts that need no change. */
  readonly notes: readonly string[]
  /** Problems, each with its remedy. */
  readonly warnings: readonly string[]
}

/**
 * Looks for other owners of the process, and takes the place of fastify-cli's.
 *
 * @param ours our listeners, by event; empty if the plugin adds none
 */
export function meetOtherOwners (ours: ReadonlyMap<string, (value: never) => void>): OtherOwners {
  const notes: string[] = []
  const warnings = new Set<string>()
  if (ours.size === 0) {
    // In a test, the helper of fastify-cli has started the app, and no signal ends the process.
    if (isFastifyCli() && !isTestRunner()) {
      warnings.add(
        "fastify-cli exits 500 ms after a signal, because 'signals' is false. Remove 'signals: false', or start the " +
        'app with --close-grace-delay and the milliseconds of your shutdown'
      )
    }
    return { notes, warnings: [...warnings] }
  }
  if (replaceFastifyCli([...ours.keys()])) notes.push("the plugin takes the place of fastify-cli's close-with-grace")
  for (const [event, listener] of ours) {
    if (!event.startsWith('SIG') || countOthers(event, listener) <= 0) continue
    const others = othersOf(event, listener)
    const named = others.filter(other => !isCloseWithGrace(other))
    if (named.length < others.length) warnings.add(closeWithGraceWarning)
    if (others.some(isOpenTelemetry)) {
      warnings.add(
        `OpenTelemetry's automatic registration stops its SDK at ${event}, and the spans of requests in flight are ` +
        'lost. Start the SDK in code, and close it as a resource: { client: sdk }'
      )
    } else if (named.length > 0) {
      const names = named.map(({ name }) => name || 'anonymous').join(', ')
      notes.push(`other listeners of ${event}: ${names}. The process ends when they are done`)
    }
  }
  return { notes, warnings: [...warnings] }
}

// any: each event has its own arguments
function othersOf (event: string, ours: (value: never) => void): ((...args: any[]) => void)[] {
  return process.listeners(event as NodeJS.Signals).filter(listener => listener !== ours)
}

/** Returns whether a listener is that of @opentelemetry/auto-instrumentations-node/register. */
function isOpenTelemetry (listener: (...args: any[]) => void): boolean { // any: each event has its own arguments
  return listener.toString().includes('OpenTelemetry SDK terminated')
}

function countSignalExit (event: string): number {
  if (!event.startsWith('SIG')) return 0
  let count = 0
  for (const [holder, key] of signalExitKeys) {
    const emitter = (holder as unknown as Record<string | symbol, { readonly count?: number } | undefined>)[key]
    count += emitter?.count ?? 0
  }
  return count
}
