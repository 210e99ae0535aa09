/**
 * Signals and crashes, through close-with-grace. This file is a little tricky, for three reasons.
 *
 * close-with-grace is installed once per process and shared by all instances, even of two copies of this package: of two
 * installations the first to finish calls `process.exit()` and kills the other. So there is one host per process.
 *
 * It ends the process at once on any error during the shutdown, which would drop the answers in flight because of some
 * handler's bug. So errors are not among its events: our own listener begins the shutdown, or, when one is on its way,
 * only makes the exit code 1.
 *
 * It ends the process at once on any second signal, even on the echo of the first, and leaves the listeners for that
 * behind. So ours takes their place.
 */
import closeWithGrace from 'close-with-grace'
import type { ShutdownReason, ShutdownSignal } from '../../types/index'
import { after, turn } from '../util/time'
import { exit, exitNow, markFailed } from './exit'

/** One Fastify instance, as far as the process is concerned. */
export interface Member {
  readonly signals: readonly ShutdownSignal[]
  readonly errors: boolean
  readonly exit: boolean
  /** Longest time its shutdown may take, in milliseconds: after that the process is ended anyhow. */
  readonly budget: number
  /** Begin to shut down, for this reason. Asked twice, done once. Never rejects. */
  stop(reason: ShutdownReason): Promise<unknown>
  /** Nobody caught this error. Called before `stop`, and for each one that follows. */
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

/** What the process is given beyond the longest budget before close-with-grace ends it: a backstop, not a plan. In ms. */
export const backstop = 2_000

/** npm and a terminal each deliver the same Ctrl-C: a signal this soon after the last one is its echo and no second thought, in ms. */
const echo = 100

/** The number is the version of `Member` and `Membership`: copies of this package that differ in it do not share a host. */
const hostKey = Symbol.for('fastify-shutdown.host.1')

export function joinProcess (member: Member): Membership {
  const place = globalThis as unknown as Record<symbol, Host | undefined>
  return (place[hostKey] ??= createHost()).join(member)
}

/** All that close-with-grace knows: what we do not name here it would listen to. */
const allSignals = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGILL', 'SIGTRAP', 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGSEGV', 'SIGUSR2', 'SIGTERM'] as const

function createHost (): Host {
  const members = new Set<Member>()
  /** Those who were told to stop and have not left. Not empty: a signal or a crash came, the next signal is the second one. */
  const stopping = new Set<Member>()
  let reason: ShutdownReason | null = null
  let crash: ShutdownReason = { kind: 'error', detail: '' }
  let exitCode: 0 | 1 | null = null
  let signals: ReadonlySet<ShutdownSignal> = new Set()
  let ends = false
  let close = (): void => {}
  let uninstall = (): void => {}
  const patience = createPatience()

  return {
    join (member) {
      members.add(member)
      if (stopping.size === 0) install()
      // Too late, the process is on its way out. As soon as its owner has built it, and before it listens.
      else if (ends) queueMicrotask(() => { if (members.has(member)) stop([member], reason!) })
      return { leave: code => leave(member, code) }
    }
  }

  function leave (member: Member, code: 0 | 1 | null): void {
    if (!members.delete(member)) return
    stopping.delete(member)
    if (code !== null) exitCode = code === 1 || exitCode === 1 ? 1 : 0
    if (members.size > 0) {
      if (stopping.size === 0) install()
    } else if (exitCode === null) {
      remove()
    } else {
      // The listeners stay for the last moment: without them another signal would kill a process that is done.
      patience.lose()
      exit(exitCode)
    }
  }

  /** Anew whenever the members change, until somebody stops. */
  function install (): void {
    const listening = [...members].filter(member => member.signals.length > 0 || member.errors)
    const next = new Set(listening.flatMap(member => member.signals))
    // Before the old ones' goes: see `keep`.
    for (const signal of next) process.on(signal, keep)
    remove()
    signals = next
    if (listening.length === 0) return
    ends = listening.some(member => member.exit)
    const installation = closeWithGrace({
      // Where nobody ends the process there is nothing to enforce, and its timer would keep it alive.
      delay: ends && Math.min(2 ** 31 - 1, Math.max(...Array.from(members, member => member.budget)) + backstop),
      logger: null,
      skip: [...allSignals.filter(signal => !signals.has(signal as ShutdownSignal)), 'uncaughtException', 'unhandledRejection', 'beforeExit'],
      onTimeout: delay => lastWord(`not over after ${delay} ms, the process ends now`)
    }, async ({ signal }) => {
      takeOverSecondSignals()
      reason = signal === undefined ? crash : { kind: 'signal', detail: signal }
      // Who does not listen goes along where the process ends: nobody else would let it finish.
      stop([...members].filter(member => ends || (signal === undefined ? member.errors : member.signals.length > 0)), reason)
      // A crash is no signal: the first one that comes after it is no second thought.
      if (signal !== undefined) patience.begin()
      // close-with-grace exits when this settles; we do when the last member has left.
      await new Promise(() => {})
    })
    close = installation.close
    uninstall = installation.uninstall
    if (listening.some(member => member.errors)) {
      process.on('uncaughtException', onError)
      process.on('unhandledRejection', onError)
    }
  }

  function remove (): void {
    patience.lose()
    uninstall()
    for (const signal of signals) {
      process.removeListener(signal, onSecondSignal)
      process.removeListener(signal, keep)
    }
    signals = new Set()
    process.removeListener('uncaughtException', onError)
    process.removeListener('unhandledRejection', onError)
  }

  function stop (those: readonly Member[], why: ShutdownReason): void {
    for (const member of those) stopping.add(member)
    for (const member of those) void member.stop(why)
  }

  function onError (error: unknown): void {
    markFailed()
    const hit = [...members].filter(member => member.errors)
    for (const member of hit) member.crash(error)
    crash = { kind: 'error', detail: String((error as Error | null | undefined)?.message ?? error) }
    if (stopping.size > 0) stop(hit.filter(member => !stopping.has(member)), crash)
    else if (members.size > 0) close()
  }

  function takeOverSecondSignals (): void {
    for (const signal of signals) {
      // It was added a moment ago, so it is the last one.
      const second = process.listeners(signal).at(-1)
      if (second !== undefined) process.removeListener(signal, second)
      process.on(signal, onSecondSignal)
    }
  }

  function onSecondSignal (signal: NodeJS.Signals): void {
    if (!patience.isOver()) return
    try {
      lastWord(`second ${signal}, the process ends now`)
    } finally {
      exitNow(1)
    }
  }

  function lastWord (message: string): void {
    for (const member of members) member.lastWord(message)
  }
}

/**
 * Does nothing, and is there throughout: where a signal's last listener goes, Node gives the signal back to the system, which ends
 * the process. close-with-grace takes its first listener away before it adds the second, and an echo may come right then.
 */
function keep (): void {}

/**
 * Tells a second thought from an echo: the former comes after a pause. A pause is time in which the event loop turned: what
 * waited while it was blocked is no later than what it followed.
 */
function createPatience (): { begin(): void, isOver(): boolean, lose(): void } {
  let heard = 0
  let over = false
  let cancel = (): void => {}

  return {
    begin,
    isOver () {
      if (over) return true
      begin()
      return false
    },
    lose
  }

  function begin (): void {
    lose()
    const now = heard
    // Signals are read after the timers of a turn of the loop, and before its end.
    cancel = after(echo, () => { void turn().then(() => { over = heard === now }) })
  }

  function lose (): void {
    heard++
    over = false
    cancel()
  }
}
