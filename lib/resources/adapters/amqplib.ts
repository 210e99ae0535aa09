/**
 * A connection of amqplib (RabbitMQ), the promise API, with all of its channels. `connection.close()` is sent on
 * channel 0, which overtakes what the other channels have sent in the same turn of the event loop: the last
 * acknowledgement and the last publish would be lost. So the adapter waits for the messages of all channels, closes the
 * channels, and then the connection.
 *
 * It counts the messages of the channels that are open when it is created, and of all later ones.
 */
import type { Resource } from '../../../types/index'
import { closeOnce, ignoreError, wrapMethod } from './adapter'
import type { Adapter, Method } from './adapter'
import { destroyConnection, isCoreConnection, trackChannel } from './amqplib-channel'
import type { AmqpChannel, TrackedChannel } from './amqplib-channel'
import { hasFields, hasMethods, property } from './structure'

/** The part of an amqplib connection that the adapter uses. */
export interface AmqpConnection {
  close (): Promise<void>
  createChannel: (...args: any[]) => Promise<any> // any: the channel is only passed on
  on (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
}

/**
 * Parts of a connection that amqplib does not document. Public alternative: none. Without them, the channels that were
 * opened before the adapter was created are not waited for.
 */
interface Internals {
  readonly expectSocketClose?: boolean
  readonly channels?: ReadonlyArray<{ readonly channel?: AmqpChannel } | null | undefined>
}

/** Recognises an amqplib connection of the promise API. */
export const amqpConnectionAdapter: Adapter<AmqpConnection> = {
  kind: 'amqplib connection (promise API)',
  // See `amqpChannelAdapter`.
  matches: client => hasFields(client, 'connection') &&
    hasMethods(client, 'createChannel', 'createConfirmChannel', 'close', 'on') &&
    isCoreConnection(property(client, 'connection')) &&
    (property(client, 'close') as Method).length === 0,
  adapt: amqpConnection
}

/** An amqplib connection whose channels are counted. */
export interface TrackedConnection {
  /** Cancels every consumer. */
  cancel (): Promise<void>
  /** Waits until every message is acknowledged, and every publish of a confirm channel is confirmed. */
  finished (): Promise<void>
  /** Closes the channels. The broker has handled everything that they sent before. */
  closeChannels (): Promise<void>
}

/** Turns an amqplib connection with all of its channels into a resource. */
export function amqpConnection (connection: AmqpConnection): Resource {
  const core = property(connection, 'connection')
  const tracked = trackConnection(connection)
  const closing = trackClose(connection, (core as Internals | undefined)?.expectSocketClose === true)
  return closeOnce({
    pause: () => tracked.cancel(),
    close: () => {
      connection.on('error', ignoreError)
      return closing.close(async () => {
        await tracked.cancel()
        await tracked.finished()
        await tracked.closeChannels()
      })
    },
    force: () => {
      connection.on('error', ignoreError)
      return destroyConnection(core)
    }
  })
}

/** Counts the messages of a connection's channels from now on. */
export function trackConnection (connection: AmqpConnection): TrackedConnection {
  const internals = (property(connection, 'connection') ?? {}) as Internals
  const channels = new Set<TrackedChannel>()
  for (const slot of internals.channels ?? []) {
    if (slot?.channel !== undefined && hasMethods(slot.channel, 'consume')) addChannel(slot.channel)
  }
  for (const name of ['createChannel', 'createConfirmChannel']) {
    wrapMethod(connection, name, create => async (...args) => addChannel(await create(...args)))
  }
  return {
    cancel: () => each(channel => channel.cancel()),
    finished: async () => {
      // A message of one channel may be answered on another, so each step is done for all of them.
      await each(channel => channel.acknowledged())
      await each(channel => channel.confirmed())
    },
    closeChannels: () => each(channel => channel.close())
  }

  async function each (step: (channel: TrackedChannel) => Promise<void>): Promise<void> {
    await Promise.all([...channels].map(step))
  }

  function addChannel<T extends AmqpChannel> (channel: T): T {
    const tracked = trackChannel(channel)
    channels.add(tracked)
    channel.on('close', () => { channels.delete(tracked) })
    return channel
  }
}

/** Records whether a connection is closed, or its owner is closing it, because a second `close` throws. */
function trackClose (
  connection: AmqpConnection, isClosedAlready: boolean
): { close (finishWork: () => Promise<unknown>): Promise<void> } {
  let isClosed = isClosedAlready
  let closing: Promise<void> | undefined
  connection.on('close', () => { isClosed = true })
  wrapMethod(connection, 'close', close => () => {
    const result = close() as Promise<void>
    closing ??= result
    return result
  })
  return {
    async close (finishWork) {
      if (closing === undefined && !isClosed) await finishWork()
      if (closing !== undefined) await closing
      else if (!isClosed) await connection.close()
    }
  }
}
