/**
 * node:cluster. A worker must stop after `worker.disconnect()` in the primary, after `cluster.worker.disconnect()` in
 * its own code, or after the message `shutdown`.
 *
 * Node handles a disconnect at once: it closes every server, which ends idle keep-alive connections that clients are
 * about to use, and then it closes the channel. No public event comes before that. So our listener takes Node's own
 * message (`{ cmd: 'NODE_CLUSTER', act: 'disconnect' }` on 'internalMessage') before Node reads it, and Node
 * disconnects when the shutdown is over. The message is the same in Node 20, 22, 24 and 26
 * (lib/internal/cluster/child.js). If a later version changes it, Node closes the servers at once, and 'disconnect'
 * starts the shutdown.
 */
import nodeCluster from 'node:cluster'
import { replaceMethod } from '../util/replaced-methods'
import { type ManagedServer, type ManagerConnection, notManaged } from './process-manager'

/** Connects the server to the primary, if this process is a worker. */
export function connectCluster (server: ManagedServer): ManagerConnection {
  const worker = nodeCluster.worker
  if (!nodeCluster.isWorker || worker === undefined) return notManaged

  // Node's types do not have 'internalMessage'.
  const internalEvents: NodeJS.EventEmitter = process
  const start = (detail: 'disconnect' | 'shutdown'): Promise<unknown> => server.start({ kind: 'message', detail })

  const onInternalMessage = (message: unknown): void => {
    if (!isDisconnect(message)) return
    if (message.shutdowns === undefined) {
      // The first of several servers in this process takes the message from Node, for all of them.
      const shutdowns: Array<Promise<unknown>> = message.shutdowns = []
      message.act = 'disconnect-after-shutdown'
      // Node also sets this at a disconnect. Without it, the worker exits at once if its primary dies during the
      // shutdown.
      worker.exitedAfterDisconnect = true
      queueMicrotask(() => {
        Promise.allSettled(shutdowns).then(() => Object.getPrototypeOf(worker).disconnect.call(worker))
      })
    }
    message.shutdowns.push(start('disconnect'))
  }
  const onMessage = (message: unknown): void => {
    if (message === 'shutdown') start('shutdown')
  }
  const onDisconnect = (): void => {
    // The primary has died, or has disconnected this worker. Without this, Node exits right after the event.
    worker.exitedAfterDisconnect = true
    start('disconnect')
  }

  // The worker's own call becomes the message of the primary. After `close`, Node handles that message.
  const restoreDisconnect = replaceMethod(worker, 'disconnect', () => function disconnect () {
    internalEvents.emit('internalMessage', { cmd: 'NODE_CLUSTER', act: 'disconnect' })
    return worker
  })
  internalEvents.prependListener('internalMessage', onInternalMessage)
  process.on('message', onMessage)
  worker.on('disconnect', onDisconnect)

  return {
    // Node reports 'listening' to the primary.
    notifyReady () {},
    close () {
      restoreDisconnect()
      internalEvents.removeListener('internalMessage', onInternalMessage)
      process.removeListener('message', onMessage)
      worker.removeListener('disconnect', onDisconnect)
    }
  }
}

interface DisconnectMessage {
  act: string
  /** Added here: the shutdowns that end before Node disconnects the worker. */
  shutdowns?: Array<Promise<unknown>>
}

function isDisconnect (message: unknown): message is DisconnectMessage {
  return typeof message === 'object' && message !== null && 'cmd' in message && message.cmd === 'NODE_CLUSTER' &&
    'act' in message && (message.act === 'disconnect' || 'shutdowns' in message)
}
