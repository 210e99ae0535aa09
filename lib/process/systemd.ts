/**
 * systemd (sd_notify(3)): READY=1 when the server listens, STOPPING=1 and STATUS=… during the shutdown,
 * EXTEND_TIMEOUT_USEC while work is pending, and WATCHDOG=1 while the event loop turns.
 */
import nodeCluster from 'node:cluster'
import type { ShutdownState } from '../../types/index'
import { every } from '../util/time'
import { type ManagedServer, type ManagerConnection, notManaged } from './process-manager'
import { createNotifier, type NotifyVariables } from './systemd-notify'

/** Time between two reports during a shutdown, in milliseconds. */
const reportInterval = 1_000
/** Longest extension that one report requests, in milliseconds. systemd ends a process that hangs after this time. */
const longestExtension = 5_000

/** Options of the connection, for tests. */
export interface SystemdOptions {
  /** The environment. @default process.env */
  readonly env?: NodeJS.ProcessEnv
  /** The id to which WATCHDOG_PID is compared. @default process.pid */
  readonly pid?: number
  /** Whether this process is a worker of node:cluster. @default cluster.isWorker */
  readonly isWorker?: boolean
  /** The program that notifies systemd. @default 'systemd-notify' */
  readonly program?: string
  /** Called at most once, if systemd cannot be notified. A `Type=notify` unit then never becomes active. */
  readonly onProblem?: (error: Error) => void
}

/** Connects the server to systemd, if a unit of `Type=notify` started this process. */
export function connectSystemd (server: ManagedServer, options: SystemdOptions = {}): ManagerConnection {
  const env = options.env ?? process.env
  // A worker is only a part of the service, and STOPPING=1 applies to the whole service.
  if (!env.NOTIFY_SOCKET || env.pm_id || (options.isWorker ?? nodeCluster.isWorker)) return notManaged

  const notifier = createNotifier(env, options.program ?? 'systemd-notify', options.onProblem ?? (() => {}))
  const report = (): void => notifier.notify({ STATUS: status(server.state), ...extension(server.state) })
  const undo: Array<() => void> = []
  let state: 'starting' | 'ready' | 'stopping' = 'starting'

  const onPhase = (): void => {
    if (state !== 'stopping') {
      state = 'stopping'
      notifier.notify({ STOPPING: '1' })
      undo.push(every(reportInterval, report))
    }
    report()
  }
  for (const phase of ['lame-duck', 'draining', 'cleaning', 'shutdown'] as const) undo.push(server.on(phase, onPhase))

  return {
    notifyReady () {
      if (state !== 'starting') return
      state = 'ready'
      notifier.notify({ READY: '1', STATUS: status(server.state) })
      const interval = watchdogInterval(env, options.pid ?? process.pid)
      if (interval !== null) undo.push(every(interval, () => notifier.notify({ WATCHDOG: '1' })))
    },
    close () {
      for (const remove of undo) remove()
      notifier.close()
    }
  }
}

/** Describes the server in one line: its phase and numbers, never a URL. */
function status (state: ShutdownState): string {
  if (state.phase === 'running') return 'running'
  const pending = [
    [state.activeRequests, 'requests'], [state.activeStreams, 'streams'],
    [state.activeWebSockets, 'WebSockets'], [state.activeTasks, 'tasks']
  ].filter(([count]) => count !== 0).map(([count, what]) => `${count} ${what}`)
  return pending.length === 0 ? state.phase : `${state.phase}: ${pending.join(', ')}`
}

/** Returns the extension to request: at most the remaining time, so that systemd ends a shutdown that exceeds it. */
function extension (state: ShutdownState): NotifyVariables {
  const ms = Math.min(longestExtension, state.remaining)
  return state.phase === 'shutdown' || !(ms > 0) ? {} : { EXTEND_TIMEOUT_USEC: String(Math.ceil(ms * 1_000)) }
}

/**
 * Returns half of WATCHDOG_USEC in milliseconds, as sd_watchdog_enabled(3) recommends; `null` if the watchdog is not
 * for this process.
 */
function watchdogInterval (env: NodeJS.ProcessEnv, pid: number): number | null {
  const usec = /^\d{1,15}$/.test(env.WATCHDOG_USEC ?? '') ? Number(env.WATCHDOG_USEC) : 0
  if (usec === 0 || (env.WATCHDOG_PID && env.WATCHDOG_PID !== String(pid))) return null
  return Math.min(2 ** 31 - 1, Math.max(1, Math.floor(usec / 2_000)))
}
