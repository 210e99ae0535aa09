/**
 * The two ends of a shutdown that a caller sees. `start()`, a signal or an uncaught error begins it. At its end, its
 * callers get the report, and the process may exit.
 */
import type { ShutdownReason, ShutdownReport } from '../../types/index'
import { ShutdownLateError } from '../errors'
import type { OtherOwners } from '../process/other-owners'
import { createDeferred, once } from '../util/deferred'
import { after, within } from '../util/time'
import type { Containment } from './containment'
import type { ShutdownParts } from './shutdown-parts'

/** Time after `delay` and `timeouts.total` until a shutdown counts as stuck, in milliseconds. */
const backstop = 2_000

/** The side of the callers. */
export interface Caller {
  /** What began the shutdown, or a plain close of the host. */
  readonly reason: ShutdownReason
  /** Resolves to the error of a late `listen()`, when this instance has closed and the process does not exit. */
  readonly listenError: Promise<Error>
  /** Looks for other owners of the process. */
  meetOthers(): OtherOwners
  /** Begins the shutdown, or joins the current one. */
  start(reason: ShutdownReason): Promise<ShutdownReport>
  /** From now on, the end of this shutdown does not end the process. */
  disableExit(): void
  /** Resolves `start()`: the report is published, and the logs are flushed. */
  resolve(report: ShutdownReport): void
}

/**
 * Creates the side of the callers, and adds this instance to the process.
 *
 * @param drain begins the phases of the shutdown
 * @param abandon begins them, if the boot of the app never ends. `app.close()` waits for the boot
 */
export function createCaller (
  parts: ShutdownParts, contained: Containment, drain: () => Promise<unknown>, abandon: () => void
): Caller {
  const { lifecycle, settings, joinProcess, problems, onProblem } = parts
  const traffic = contained.part('traffic', parts.traffic)
  const { signals } = settings
  const budget = settings.delay.max + settings.timeouts.total
  const reported = createDeferred<ShutdownReport>()
  const listenError = createDeferred<Error>()
  const run = once(closeApp)
  let reason: ShutdownReason = { kind: 'close', detail: parts.close.name }
  let { exit } = settings
  let started = false

  const membership = joinProcess({
    signals: signals === false ? [] : signals,
    uncaughtErrors: settings.uncaughtErrors,
    get exit () { return exit },
    budget,
    start,
    onUncaughtError (error) {
      // The shutdown begins with this error.
      problems.begin()
      onProblem('Uncaught error', error)
    },
    reportForcedExit,
    flush: parts.flushLog
  })
  return {
    get reason () { return reason },
    listenError: listenError.promise,
    meetOthers: membership.meetOthers,
    start,
    disableExit () { exit = false },
    resolve (report) {
      reported.resolve(report)
      if (!started) leave(null)
    }
  }

  function start (why: ShutdownReason): Promise<ShutdownReport> {
    if (!started && lifecycle.reason === null) reason = why
    started = true
    return run()
  }

  async function closeApp (): Promise<ShutdownReport> {
    // If the app is not ready, `close()` first finishes the boot. The phases begin after that.
    if (lifecycle.booted) await drain()
    else traffic.failListen(listenError.promise)
    const cancel = after(budget, () => { if (lifecycle.reason === null) abandon() })
    // Its error is in the report.
    new Promise(resolve => { resolve(parts.close.original()) }).catch(() => {})
    const settled = await within(budget + backstop, () => reported.promise)
    if (settled.status === 'late') {
      reportForcedExit('abandoned, because it is not over in time')
      leave(exit ? 1 : null)
    }
    const report = await reported.promise
    cancel()
    // After the report, `onReport`, a listener or an exporter may have failed.
    leave(exit ? (problems.errors.length > 0 ? 1 : report.exitCode) : null)
    return report
  }

  function reportForcedExit (message: string): void {
    contained.run('log', () => { parts.onForcedExit(message) })
  }

  function leave (exitCode: 0 | 1 | null): void {
    contained.run('process', () => {
      membership.leave(exitCode, Math.min(settings.timeouts.resources, lifecycle.remaining()))
    })
    // A caller of `listen()` may end the process if `listen()` fails. This must not happen if we are about to end it
    // ourselves.
    if (exitCode === null) listenError.resolve(new ShutdownLateError('listen()', lifecycle.phase))
  }
}
