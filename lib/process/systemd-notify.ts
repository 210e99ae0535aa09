/**
 * Sends variables to systemd (sd_notify(3)) with the program `systemd-notify`, because Node has no unix datagram
 * sockets. Each call starts a child process, which takes a few milliseconds. The unit needs NotifyAccess=all, so that
 * systemd accepts messages of a child process.
 *
 * The option --no-block is not used. If the child exits before systemd has read its message, systemd ignores the
 * message. A child never keeps this process alive.
 */

/** Variables of sd_notify(3), by name. */
export type NotifyVariables = Readonly<Record<string, string>>

/** The connection to systemd. */
export interface Notifier {
  /**
   * Sends the variables. While a child runs, later variables wait, and are then sent together, each with its last
   * value.
   */
  notify(variables: NotifyVariables): void
  /** Sends nothing more. */
  close(): void
}

/** Creates the connection. @param onProblem called at most once, if systemd cannot be notified */
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
      // Loaded here, so that it is not loaded without systemd.
      const { spawn } = process.getBuiltinModule('node:child_process')
      const child = spawn(program, variables, {
        stdio: 'ignore', env: { PATH: env.PATH, NOTIFY_SOCKET: env.NOTIFY_SOCKET }
      })
      child.unref()
      child.once('error', onStartError)
      child.once('exit', (code, signal) => {
        if (code !== 0) {
          report(`systemd may not have received this service's state: ${program} exited with ${code ?? signal}`)
        }
        sendNext()
      })
    } catch (error) {
      onStartError(error as Error)
    }
  }

  function onStartError (error: NodeJS.ErrnoException): void {
    report(
      `systemd does not receive this service's state: ${program} did not start (${error.code ?? error.message})`,
      error
    )
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
