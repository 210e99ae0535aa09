/**
 * Connections to RabbitMQ that reconnect: amqp-connection-manager, and amqplib with its option `recovery`. Each of
 * their connections is one of amqplib, so its channels are counted as those of `amqpConnection`. `close()` of
 * amqp-connection-manager rejects the publishes that are not confirmed, so the adapter waits for them first. While the
 * broker is not reachable, they wait for the next connection.
 */
import type { Resource } from '../../../types/index'
import { closeOnce, ignoreError, trackCalls, wrapMethod } from './adapter'
import type { Adapter, Method } from './adapter'
import { trackConnection, type AmqpConnection, type TrackedConnection } from './amqplib'
import { destroyConnection } from './amqplib-channel'
import { hasFields, hasMethods, property } from './structure'

/** The part of an AmqpConnectionManager that the adapter uses. */
export interface AmqpConnectionManager {
  readonly connection: AmqpConnection | undefined
  close (): Promise<void>
  on (event: 'connect', listener: (event: { connection: any }) => void): unknown // any: the driver's own type
}

/** The part of amqplib's connection with `recovery` that the adapter uses. */
export interface AmqpRecoveringConnection {
  close (): Promise<void>
  on (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
}

interface ChannelWrapper { cancelAll (): Promise<void> }

/** Recognises an AmqpConnectionManager. Its fields are private, because its class is not exported as a value. */
export const amqpConnectionManagerAdapter: Adapter<AmqpConnectionManager> = {
  kind: 'amqp-connection-manager',
  matches: client => hasFields(client, '_channels', '_currentUrl', '_findServers', 'reconnectTimeInSeconds') &&
    hasMethods(client, 'createChannel', 'reconnect', 'close', 'on'),
  adapt: amqpConnectionManager
}

/** Recognises a connection of amqplib with `recovery`, the promise API. Its fields are private: see above. */
export const amqpRecoveringAdapter: Adapter<AmqpRecoveringConnection> = {
  kind: 'amqplib connection with recovery (promise API)',
  matches: client => hasFields(client, '_core') &&
    hasMethods(client, 'createChannel', 'createConfirmChannel', 'waitForConnect', 'close', 'on') &&
    hasFields(property(client, '_core') as object, '_openModel', '_model') &&
    (property(client, 'close') as Method).length === 0,
  adapt: amqpRecoveringConnection
}

/**
 * Turns an AmqpConnectionManager with all of its channels into a resource: it cancels the consumers, waits for the
 * acknowledgements and for the publishes, then closes. `force` rejects the publishes and destroys the socket.
 */
export function amqpConnectionManager (manager: AmqpConnectionManager): Resource {
  const channels = new Set<ChannelWrapper>()
  const published: Array<() => Promise<void>> = []
  let tracked = manager.connection === undefined ? undefined : trackConnection(manager.connection)
  manager.on('connect', ({ connection }) => { tracked = trackConnection(connection as AmqpConnection) })
  // Private. Public alternative: none. Without it, channels from before are closed and not waited for.
  for (const channel of (property(manager, '_channels') ?? []) as ChannelWrapper[]) addChannel(channel)
  wrapMethod(manager, 'createChannel', create => (...args) => addChannel(create(...args) as ChannelWrapper))
  const ownerHasClosed = trackCalls(manager, 'close')

  return closeOnce({
    pause: cancel,
    close: async () => {
      await cancel()
      // A message that is acknowledged may have been answered with a publish.
      await tracked?.finished()
      await Promise.all(published.map(settled => settled()))
      await manager.close()
      await ownerHasClosed()
    },
    force: async () => {
      const { connection } = manager
      // Otherwise the manager would wait for its next attempt to connect.
      if (connection !== undefined) (connection as unknown as NodeJS.EventEmitter).removeAllListeners('close')
      manager.close().catch(ignoreError)
      await destroyConnection(property(connection ?? {}, 'connection'))
    }
  })

  // A channel would otherwise consume again after a reconnection. It rejects if its connection closes meanwhile.
  async function cancel (): Promise<void> {
    await Promise.allSettled([...channels].map(channel => channel.cancelAll()))
  }

  function addChannel (channel: ChannelWrapper): ChannelWrapper {
    channels.add(channel)
    published.push(trackCalls(channel, 'publish', 'sendToQueue'))
    return channel
  }
}

/** Turns a connection of amqplib with `recovery` into a resource, as `amqpConnection` does. */
export function amqpRecoveringConnection (connection: AmqpRecoveringConnection): Resource {
  // Private. Public alternative: the event `connect`, which may have come before. Without it, `force` ends nothing.
  const core = property(connection, '_core') as { readonly _model?: AmqpConnection | null }
  const current = (): AmqpConnection | null => core._model ?? null
  let tracked: TrackedConnection | undefined
  const track = (model: AmqpConnection | null): void => { if (model !== null) tracked = trackConnection(model) }
  track(current())
  connection.on('connect', track)
  const ownerHasClosed = trackCalls(connection, 'close')

  return closeOnce({
    pause: () => tracked?.cancel(),
    close: async () => {
      connection.on('error', ignoreError)
      if (current() !== null) {
        await tracked?.cancel()
        await tracked?.finished()
        await tracked?.closeChannels()
      }
      await connection.close()
      await ownerHasClosed()
    },
    force: async () => {
      connection.on('error', ignoreError)
      const model = current()
      connection.close().catch(ignoreError)
      await destroyConnection(property(model ?? {}, 'connection'))
    }
  })
}
