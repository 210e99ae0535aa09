/**
 * PM2: it waits for the message `ready` (its `wait_ready`), and asks to stop by the message `shutdown` where an app has
 * `shutdown_with_message`. On a reload it sends SIGINT even then (PM2 7, God/Methods.js: only a numeric pm_id gets the
 * message, and a reload has renamed it to `_old_<id>`), so the signals stay needed.
 */
import { type Steerable, type Tie, untied } from './process-manager'

/** As much of `process` as is needed here. */
export interface Channel {
  readonly env: NodeJS.ProcessEnv
  readonly connected?: boolean | undefined
  send?: ((message: unknown, sendHandle: undefined, options: undefined, callback: (error: Error | null) => void) => unknown) | undefined
  on(event: 'message', listener: (message: unknown) => void): unknown
  removeListener(event: 'message', listener: (message: unknown) => void): unknown
}

/** Tie the server to PM2, where this process is PM2's. */
export function tiePm2 (app: Steerable, proc: Channel = process as Channel): Tie {
  if (!proc.env.pm_id || proc.send === undefined) return untied

  let told = false
  const onMessage = (message: unknown): void => {
    if (message === 'shutdown') app.start({ kind: 'message', detail: 'shutdown' })
  }
  // A listener for messages keeps the process alive as long as the channel is open: `undo` must take it back.
  proc.on('message', onMessage)

  return {
    ready () {
      if (told || !proc.connected) return
      told = true
      // With a callback, a channel that closes in this moment is no 'error' event: nobody is left who could be told.
      proc.send?.('ready', undefined, undefined, () => {})
    },
    undo () {
      proc.removeListener('message', onMessage)
    }
  }
}
