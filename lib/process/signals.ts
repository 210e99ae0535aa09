/**
 * Signals and crashes, through close-with-grace. This file is a little tricky, for three reasons.
 *
 * close-with-grace is installed once per process and shared by all instances, even of two copies of this package: of two
 * installations the first to finish calls `process.exit()` and kills the other. So there is one host per process.
 *
 * It ends the process at once on any error during the shutdown, which would drop the answers in flight because of some
 * handler's bug. So errors are not among its events: our own two listeners begin the shutdown, or, when one is on its way,
 * only make the exit code 1.
 *
 * It leaves its second-signal listeners behind. So we remember which ones it added, and take them away.
 */
import closeWithGrace from 'close-with-grace'
import type { ShutdownReason, ShutdownSignal } from '../../types/index'
import { exit } from './exit'

/** One Fastify instance, as far as the process is concerned. */
export interface Member {
  readonly signals: readonly ShutdownSignal[]
  readonly errors: boolean
  readonly exit: boolean
  /** Longest time its shutdown may take, in milliseconds: after that the process is ended anyhow. */
  readonly budget: number
  /** Begin to shut down, for this reason. Never rejects. */
  stop(reason: ShutdownReason): Promise<unknown>
  /** An error came while it was shutting down already. */
  crash(error: unknown): void
  /** A last word before the process is ended by force. */
  lastWord(message: string): void
}

export interface Membership {
  /** This instance has closed. The process is ended once all have, where one of them had a reason to. */
  leave(exitCode: 0 | 1 | null): void
}

interface Host {
  join(member: Member): Membership
}

/** What the process is given beyond the longest budget before close-with-grace ends it: a backstop, not a plan. */
const backstop = 2_000

/** npm and a terminal may each deliver the same Ctrl-C: a repetition this soon is an echo and no second thought, in ms. */
const echo = 100

const hostKey = Symbol.for('fastify-shutdown.host.1')

export function joinProcess (member: Member): Membership {
  const place = globalThis as unknown as Record<symbol, Host | undefined>
  return (place[hostKey] ??= createHost()).join(member)
}

type Installation = { readonly close: () => void, readonly uninstall: () => void }

const allSignals = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGILL', 'SIGTRAP', 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGSEGV', 'SIGUSR2', 'SIGTERM'] as const

function createHost (): Host {
  const members = new Set<Member>()
  let installed: Installation | null = null
  let stopping = false
  let crashed: unknown = null
  let exitCode: 0 | 1 | null = null
  let added: [ShutdownSignal, (...args: unknown[]) => void][] = []

  return {
    join (member) {
      members.add(member)
      if (!stopping) reinstall()
      return {
        leave (code) {
          if (!members.delete(member)) return
          if (code !== null) exitCode = code === 1 || exitCode === 1 ? 1 : 0
          if (members.size > 0) {
            if (!stopping) reinstall()
            return
          }
          uninstall()
          const final = exitCode
          exitCode = null
          if (final !== null) exit(final)
        }
      }
    }
  }

  function reinstall (): void {
    uninstall()
    const signals = new Set([...members].flatMap(member => member.signals))
    const errors = [...members].some(member => member.errors)
    if (signals.size === 0 && !errors) return
    const exits = [...members].some(member => member.exit)
    installed = closeWithGrace({
      // Without an exit there is nothing to enforce, and its timer would keep the process alive.
      delay: exits && Math.max(...Array.from(members, member => member.budget)) + backstop,
      logger: null,
      skip: [...allSignals.filter(signal => !signals.has(signal as ShutdownSignal)), 'uncaughtException', 'unhandledRejection', 'beforeExit'],
      onSecondSignal: signal => { lastWord(`second ${signal}, the process ends now`) },
      onTimeout: delay => { lastWord(`not over after ${delay} ms, the process ends now`) }
    }, async ({ signal }) => {
      takeOverSecondSignals(signals)
      const reason: ShutdownReason = signal === undefined
        ? { kind: 'error', detail: String((crashed as Error | null)?.message ?? crashed) }
        : { kind: 'signal', detail: signal }
      for (const member of members) if (signal === undefined || member.signals.includes(signal as ShutdownSignal)) void member.stop(reason)
      // close-with-grace exits when this settles; we do when the last member has left.
      await new Promise(() => {})
    })
    if (errors) {
      process.on('uncaughtException', onError)
      process.on('unhandledRejection', onError)
    }
  }

  function uninstall (): void {
    installed?.uninstall()
    installed = null
    for (const [signal, listener] of added) process.removeListener(signal, listener)
    added = []
    process.removeListener('uncaughtException', onError)
    process.removeListener('unhandledRejection', onError)
    stopping = false
    crashed = null
  }

  function onError (error: unknown): void {
    for (const member of members) if (member.errors) member.crash(error)
    if (stopping) return
    crashed = error
    installed?.close()
  }

  function takeOverSecondSignals (signals: ReadonlySet<ShutdownSignal>): void {
    stopping = true
    const first = performance.now()
    for (const signal of signals) {
      // It was added a moment ago, so it is the last one.
      const second = process.listeners(signal).at(-1) as ((...args: unknown[]) => void) | undefined
      if (second === undefined) continue
      process.removeListener(signal, second as NodeJS.SignalsListener)
      const listener = (...args: unknown[]): void => { if (performance.now() - first > echo) second(...args) }
      process.on(signal, listener)
      added.push([signal, listener])
    }
  }

  function lastWord (message: string): void {
    for (const member of members) member.lastWord(message)
  }
}
