/**
 * Sends variables to systemd (sd_notify(3)) by the program `systemd-notify`, because Node has no unix datagram sockets. Each
 * call is a child process of a few milliseconds, so the unit needs NotifyAccess=all.
 *
 * The option --no-block is not used: a child that exits before systemd has read its message is unknown to systemd, which
 * then ignores the message. A child never keeps this process alive.
 */

/** Variables of sd_notify(3), by name. */
export type NotifyVariables = Readonly<Record<string, string>>

export interface Notifier {
  /** Sends the variables. Those that come while a child runs are sent together after it, each with its last value. */
  notify(variables: NotifyVariables): void
  /** Sends nothing more. */
  close(): void
}

/** @param onProblem called at most once, if systemd is not notified */
export function createNotifier (env: NodeJS.ProcessEnv, program: string, onProblem: (error: Error) => void): Notifier {
  let waiting: Record<string, string> = {}
  let state: 'idle' | 'sending' | 'closed' = 'idle'
  let hasProblem = false

  return {
    notify (variables) {
      Object.assign(waiting, variables)
      send()
    },
    close () { state = 'closed' }
  }

  function send (): void {
    const variables = Object.entries(waiting).map(([name, value]) => `${name}=${value}`)
    if (state !== 'idle' || variables.length === 0) return
    waiting = {}
    state = 'sending'
    try {
      // Loaded here: without systemd it is not loaded at all.
      const { spawn } = process.getBuiltinModule('node:child_process')
      const child = spawn(program, variables, { stdio: 'ignore', env: { PATH: env.PATH, NOTIFY_SOCKET: env.NOTIFY_SOCKET } })
      child.unref()
      child.once('error', onStartError)
      child.once('exit', (code, signal) => {
        if (code !== 0) report(`systemd may have missed this service's state: ${program} exited with ${code ?? signal}`)
        sendNext()
      })
    } catch (error) {
      onStartError(error as Error)
    }
  }

  function onStartError (error: NodeJS.ErrnoException): void {
    report(`systemd does not receive this service's state: ${program} did not start (${error.code ?? error.message})`, error)
    // Other errors, such as EAGAIN and ENOMEM, may pass, and the next watchdog message must be sent.
    if (error.code === 'ENOENT' || error.code === 'EACCES') state = 'closed'
    else if (state === 'sending') state = 'idle'
  }

  function sendNext (): void {
    if (state === 'sending') state = 'idle'
    send()
  }

  function report (message: string, cause?: Error): void {
    if (!hasProblem && state !== 'closed') onProblem(new Error(message, { cause }))
    hasProblem = true
  }
}
