/**
 * systemd (sd_notify(3)): READY=1 when the server listens, STOPPING=1 and STATUS=… from phase to phase, EXTEND_TIMEOUT_USEC
 * while work remains, WATCHDOG=1 while the event loop turns.
 *
 * Node has no unix datagram sockets (dgram refuses 'unix_dgram'), so each word is said by the program `systemd-notify`, a few
 * milliseconds of a child process. The unit therefore needs NotifyAccess=all. Without --no-block: the child then stays until
 * systemd has read its words; where it left earlier, systemd could no longer tell whose child it was and would drop them.
 * Nothing of this ever keeps the process alive, and where the program is missing it is said once and left at that.
 */
import nodeCluster from 'node:cluster'
import type { ShutdownState } from '../../types/index'
import { every } from '../util/time'
import { type Steerable, type Tie, untied } from './process-manager'

/** How often systemd is told that work remains, in milliseconds. */
const beat = 1_000
/** How much time each beat asks for, at most: a process that froze is not waited for longer than this. */
const extension = 5_000

export interface SystemdOptions {
  /** @default process.env */
  readonly env?: NodeJS.ProcessEnv
  /** @default process.pid */
  readonly pid?: number
  /** Whether this is a worker of node:cluster. @default what node:cluster says */
  readonly isWorker?: boolean
  /** The program that speaks. @default 'systemd-notify' */
  readonly program?: string
  /** Called at most once, with why systemd cannot be told. A `Type=notify` unit then never becomes active. */
  readonly onProblem?: (error: Error) => void
}

/** Tie the server to systemd, where a unit of `Type=notify` started this process. */
export function tieSystemd (app: Steerable, options: SystemdOptions = {}): Tie {
  const env = options.env ?? process.env
  // A worker is not the service: STOPPING=1 from one of several would tell that all of them go.
  if (!env.NOTIFY_SOCKET || env.pm_id || (options.isWorker ?? nodeCluster.isWorker)) return untied

  const { notify, quit } = notifier(env, options.program ?? 'systemd-notify', options.onProblem ?? (() => {}))
  const stops: (() => void)[] = []
  let isReady = false
  let isStopping = false

  const report = (): void => notify({ STATUS: status(app.state), ...extend(app.state) })
  const enter = (): void => {
    if (!isStopping) {
      isStopping = true
      notify({ STOPPING: '1' })
      stops.push(every(beat, report))
    }
    report()
  }
  const undos = (['lame-duck', 'draining', 'cleaning', 'shutdown'] as const).map(phase => app.on(phase, enter))

  return {
    ready () {
      if (isReady || isStopping) return
      isReady = true
      notify({ READY: '1', STATUS: status(app.state) })
      const watch = watchdogInterval(env, options.pid ?? process.pid)
      if (watch !== null) stops.push(every(watch, () => notify({ WATCHDOG: '1' })))
    },
    undo () {
      for (const undo of [...undos, ...stops]) undo()
      quit()
    }
  }
}

/** One line on where the server is: numbers and the phase's name only. */
function status (state: ShutdownState): string {
  if (state.phase === 'running') return 'running'
  const inside = [
    [state.activeRequests, 'requests'], [state.activeStreams, 'streams'],
    [state.activeWebSockets, 'WebSockets'], [state.activeTasks, 'tasks']
  ].filter(([count]) => count !== 0).map(([count, what]) => `${count} ${what}`)
  return inside.length === 0 ? state.phase : `${state.phase}: ${inside.join(', ')}`
}

/** Never more than we ourselves have left: systemd's SIGKILL stays the backstop of a shutdown that overran. */
function extend (state: ShutdownState): { EXTEND_TIMEOUT_USEC?: string } {
  const ms = Math.min(extension, state.remaining)
  return state.phase === 'shutdown' || !(ms > 0) ? {} : { EXTEND_TIMEOUT_USEC: String(Math.ceil(ms * 1_000)) }
}

/** sd_watchdog_enabled(3): meant for us only where WATCHDOG_PID is ours or unset; half of the time is what it advises. */
function watchdogInterval (env: NodeJS.ProcessEnv, pid: number): number | null {
  const usec = /^\d{1,15}$/.test(env.WATCHDOG_USEC ?? '') ? Number(env.WATCHDOG_USEC) : 0
  if (usec === 0 || (env.WATCHDOG_PID && env.WATCHDOG_PID !== String(pid))) return null
  return Math.min(2 ** 31 - 1, Math.max(1, Math.floor(usec / 2_000)))
}

type Words = Readonly<Record<string, string>>

/**
 * Says one thing after the other, so that nothing overtakes. What comes up meanwhile is said in one go, the newest of each
 * word only: a systemd that is slow to read can never make children pile up.
 */
function notifier (env: NodeJS.ProcessEnv, program: string, onProblem: (error: Error) => void): { notify (words: Words): void, quit (): void } {
  let waiting: Record<string, string> = {}
  let speaking = false
  let complained = false
  let mute = false

  const complain = (error: Error): void => {
    if (!complained && !mute) onProblem(error)
    complained = true
  }
  const fail = (error: NodeJS.ErrnoException): void => {
    // Other errors (EAGAIN, ENOMEM) pass: a watchdog must not be lost to a moment without memory.
    complain(new Error(`systemd cannot be told how this service is: ${program} did not start (${error.code ?? error.message})`, { cause: error }))
    mute ||= error.code === 'ENOENT' || error.code === 'EACCES'
    speaking = false
  }
  const speak = (): void => {
    const words = Object.entries(waiting).map(([name, value]) => `${name}=${value}`)
    if (mute || speaking || words.length === 0) return
    waiting = {}
    speaking = true
    try {
      // Loaded here, so that it costs nothing where there is no systemd.
      const { spawn } = process.getBuiltinModule('node:child_process')
      const child = spawn(program, words, { stdio: 'ignore', env: { PATH: env.PATH, NOTIFY_SOCKET: env.NOTIFY_SOCKET } })
      child.unref()
      child.once('error', fail)
      child.once('exit', (code, signal) => {
        speaking = false
        if (code !== 0) complain(new Error(`systemd may not have heard how this service is: ${program} ended with ${code ?? signal}`))
        speak()
      })
    } catch (error) {
      fail(error as Error)
    }
  }
  return {
    notify (words) {
      Object.assign(waiting, words)
      speak()
    },
    quit () { mute = true }
  }
}
