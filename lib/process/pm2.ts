/**
 * PM2. PM2 waits for the message `ready` (`wait_ready`), and sends the message `shutdown` to stop an app
 * (`shutdown_with_message`). A reload always sends SIGINT, because PM2 7 sends the message only to a numeric pm_id, and
 * a reload renames it to `_old_<id>` (God/Methods.js). So the signals are also needed.
 */
import { type ManagedServer, type ManagerConnection, notManaged } from './process-manager'

/** The part of `process` that PM2 uses. */
export interface Pm2Process {
  /** PM2 sets `pm_id`. */
  readonly env: NodeJS.ProcessEnv
  /** Whether the channel to PM2 is open. */
  readonly connected?: boolean | undefined
  /** Sends a message to PM2; `undefined` without a channel. */
  send?: ((
    message: unknown, sendHandle: undefined, options: undefined, callback: (error: Error | null) => void
  ) => unknown) | undefined
  /** Receives PM2's messages. */
  on(event: 'message', listener: (message: unknown) => void): unknown
  /** Removes the listener. */
  removeListener(event: 'message', listener: (message: unknown) => void): unknown
}

/** Connects the server to PM2, if PM2 started this process. */
export function connectPm2 (server: ManagedServer, pm2Process: Pm2Process = process as Pm2Process): ManagerConnection {
  if (!pm2Process.env.pm_id || pm2Process.send === undefined) return notManaged

  let isReady = false
  const onMessage = (message: unknown): void => {
    if (message === 'shutdown') server.start({ kind: 'message', detail: 'shutdown' })
  }
  // A listener for messages keeps the process alive while the channel is open. `close` must remove it.
  pm2Process.on('message', onMessage)

  return {
    notifyReady () {
      if (isReady || !pm2Process.connected) return
      isReady = true
      // Without a callback, a channel that closes at this moment emits 'error'.
      pm2Process.send?.('ready', undefined, undefined, () => {})
    },
    close () {
      pm2Process.removeListener('message', onMessage)
    }
  }
}
