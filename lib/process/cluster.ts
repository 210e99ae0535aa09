/**
 * node:cluster: a worker may be asked to go by `worker.disconnect()` in the primary, by `cluster.worker.disconnect()` in its
 * own code, or by the message `shutdown`.
 *
 * This is the tricky one. Node answers a disconnect inside of the worker at once: it closes every server, which ends idle
 * keep-alive connections under clients that are about to use them, and then cuts the channel. There is no public event
 * before that; 'disconnect' comes when all is over. So Node's own message (`{ cmd: 'NODE_CLUSTER', act: 'disconnect' }` on
 * 'internalMessage', lib/internal/cluster/child.js; seen in Node 20, 22, 24 and 26) is taken in front of Node and held back
 * until the shutdown is over. New connections go to the other workers meanwhile, where it was the primary that asked: it has taken this one off
 * its list. Should a later Node word it differently, we are no worse off than without: Node closes the servers, and 'disconnect' begins the shutdown.
 */
import nodeCluster from 'node:cluster'
import { type Steerable, type Tie, untied } from './process-manager'

/** Tie the server to its cluster's primary, where this process is a worker. */
export function tieCluster (app: Steerable): Tie {
  const worker = nodeCluster.worker
  if (!nodeCluster.isWorker || worker === undefined) return untied

  // Node's types do not list its own message.
  const internals: NodeJS.EventEmitter = process
  const own = Object.getOwnPropertyDescriptor(worker, 'disconnect')

  const onInternal = (message: unknown): void => {
    if (!isDisconnect(message)) return
    if (message.heldBack === undefined) {
      // The first of possibly several servers in this process takes it from Node, and goes on for all of them.
      const heldBack: Array<Promise<unknown>> = message.heldBack = []
      message.act = 'disconnect-held-back'
      // As Node would by now: without it, a primary that dies while we drain makes Node exit at once.
      worker.exitedAfterDisconnect = true
      queueMicrotask(() => { Promise.allSettled(heldBack).then(() => Object.getPrototypeOf(worker).disconnect.call(worker)) })
    }
    message.heldBack.push(app.start({ kind: 'message', detail: 'disconnect' }))
  }
  const onMessage = (message: unknown): void => {
    if (message === 'shutdown') app.start({ kind: 'message', detail: 'shutdown' })
  }
  const onDisconnect = (): void => {
    // Also where the primary has died. Node exits right after this, with all that is in flight, unless it was meant.
    worker.exitedAfterDisconnect = true
    app.start({ kind: 'message', detail: 'disconnect' })
  }

  // The worker's own wish takes the same way. Where nobody holds it back any more, Node does what it would have done.
  worker.disconnect = function disconnect () {
    internals.emit('internalMessage', { cmd: 'NODE_CLUSTER', act: 'disconnect' })
    return worker
  }
  internals.prependListener('internalMessage', onInternal)
  process.on('message', onMessage)
  worker.on('disconnect', onDisconnect)

  return {
    // The primary sees 'listening' by itself.
    ready () {},
    undo () {
      if (own === undefined) Reflect.deleteProperty(worker, 'disconnect')
      else Object.defineProperty(worker, 'disconnect', own)
      internals.removeListener('internalMessage', onInternal)
      process.removeListener('message', onMessage)
      worker.removeListener('disconnect', onDisconnect)
    }
  }
}

interface DisconnectMessage {
  act: string
  /** Ours: the shutdowns that are waited for before Node's own disconnect. */
  heldBack?: Array<Promise<unknown>>
}

function isDisconnect (message: unknown): message is DisconnectMessage {
  return typeof message === 'object' && message !== null && 'cmd' in message && message.cmd === 'NODE_CLUSTER' &&
    'act' in message && (message.act === 'disconnect' || 'heldBack' in message)
}
