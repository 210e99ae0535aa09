/**
 * How a shutdown begins and ends, whoever asks for it: a signal, a crash, a message, `start()` or a plain `app.close()`. All of
 * them end in Fastify's own close; what differs is the reason, and whether the process goes with it.
 */
import type { FastifyInstance } from 'fastify'
import type { ShutdownReason, ShutdownReport } from '../../types/index'
import type { Coordinator } from './coordinator'
import { within } from '../util/time'
import { ShutdownLateError, ShutdownTeardownError } from '../errors'
import { later } from '../util/deferred'
import type { Settings } from '../options'
import type { PhaseLine } from './phases'
import { backstop, joinProcess } from '../process/signals'
import { failuresOf, type Story } from './report'
import type { Teardown } from '../resources/teardown'

export interface Ending {
  /** Begin, or join what has begun. Always resolves to the report, also where `app.close()` rejects or never settles. */
  start(reason: ShutdownReason): Promise<ShutdownReport>
  /** Resolves when all is in; begins a plain close where nothing has begun. */
  drained(): Promise<Teardown>
  /** The last onClose hook. @throws FST_ERR_SHUTDOWN_TEARDOWN where something did not close */
  finish(): Promise<void>
}

export interface EndingOptions {
  readonly settings: Settings
  readonly coordinator: Coordinator
  readonly phase: PhaseLine
  readonly booted: () => boolean
  readonly onProblem: (message: string, error: unknown) => void
  /** Nothing begins to listen any more; a `listen()` that comes is refused once this resolves. */
  readonly refuseListen: (over: Promise<Error>) => void
  /** From the story to the report, which is published. */
  readonly publish: (story: Story, crashed: boolean) => ShutdownReport
  /** Logs, metrics and the ties to process managers: the last to go. */
  readonly flush: () => Promise<void>
  /** A last word before the process is ended by force. */
  readonly lastWord: (message: string) => void
}

/** What `start()` waits for beyond the report: hooks that were there before ours and run after it, in milliseconds. */
const afterReport = 1_000

/** What `onReport` has even when all the time is used up, in milliseconds. */
const lastMoment = 500

export function createEnding (app: FastifyInstance, { settings, coordinator, phase, booted, onProblem, refuseListen, publish, flush, lastWord }: EndingOptions): Ending {
  const { timeouts, exit, signals } = settings
  const budget = settings.delay + timeouts.total
  const reported = later<ShutdownReport>()
  const over = later<Error>()
  let asked: ShutdownReason = { kind: 'close', detail: 'app.close()' }
  let started: Promise<ShutdownReport> | null = null
  let crashed = false

  const membership = joinProcess({
    signals: signals === false ? [] : signals,
    errors: settings.uncaughtErrors,
    exit,
    budget,
    stop: start,
    crash (error) {
      crashed = true
      onProblem('an error that nobody caught', error)
    },
    lastWord
  })
  phase.on('draining', () => refuseListen(over.promise))
  return { start, drained: async () => await coordinator.drained(asked), finish }

  function start (reason: ShutdownReason): Promise<ShutdownReport> {
    if (started !== null) return started
    const told = later<ShutdownReport>()
    started = told.promise // Before it begins: a listener of its first phase may ask again.
    told.resolve(run(reason))
    return started
  }

  async function run (reason: ShutdownReason): Promise<ShutdownReport> {
    asked = reason
    // Before it is ready, `close()` finishes the boot first, and only then the story may begin.
    if (booted()) await coordinator.drained(asked)
    else refuseListen(over.promise)
    // How it went is in the report; nobody else waits for this promise.
    const closed = Promise.allSettled([app.close()])
    const told = await within(Math.min(2 ** 31 - 1, budget + backstop), () => reported.promise)
    if (told.status === 'late') {
      // Everything of ours has its time; a boot that never ends has not, and `close()` waits for it.
      lastWord('not over in time, nobody waits for it any more')
      leave(exit ? 1 : null)
    }
    const report = await reported.promise
    await within(afterReport, () => closed)
    leave(exit ? report.exitCode : null)
    return report
  }

  async function finish (): Promise<void> {
    await coordinator.drained(asked)
    coordinator.serverGone()
    const report = publish(await coordinator.shutDown(asked), crashed)
    const time = Math.max(lastMoment, Math.min(timeouts.resources, coordinator.remaining()))
    const listened = await within(time, () => settings.onReport?.(report))
    if (listened.status === 'rejected') onProblem("'onReport' threw", listened.reason)
    await flush()
    reported.resolve(report)
    if (started === null) leave(null)
    const failures = failuresOf(report)
    if (failures.length > 0) throw new ShutdownTeardownError(failures)
  }

  function leave (exitCode: 0 | 1 | null): void {
    membership.leave(exitCode)
    // Who waits for a `listen()` may end the process when it is refused: not where we are about to.
    if (exitCode === null) over.resolve(new ShutdownLateError('listen()', phase.current))
  }
}
