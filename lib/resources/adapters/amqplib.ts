/**
 * amqplib (RabbitMQ), the promise API. If a connection closes while a message is still processed, the `ack` that
 * follows throws in the user's code ("Channel closed"), and the broker delivers the message again. So the adapter
 * cancels the consumers first, and closes the connection when every message is acknowledged and every publish
 * confirmed.
 *
 * amqplib has no event for an acknowledgement. So the adapter replaces `consume`, `get`, `ack`, … of the channels that
 * are open when it is created, and of all later ones.
 */
import type { Resource } from '../../../types/index'
import { createConditions } from '../../util/conditions'
import { closeOnce, forcedError, hasMethods, ignoreError, property, wrapMethod } from './adapter'
import type { Adapter, Method } from './adapter'
import { destroySockets, type Socket } from './sockets'

/** The part of an amqplib connection that the adapter uses. */
export interface AmqpConnection {
  close (): Promise<void>
  createChannel: (...args: any[]) => Promise<any> // any: the channel is only passed on
  on (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
}

/** The part of an amqplib channel that the adapter uses. */
export interface AmqpChannel {
  close (): Promise<void>
  cancel (tag: string): Promise<unknown>
  consume: (...args: any[]) => Promise<any> // any: only passed on
  on (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
}

interface Message { readonly fields: { readonly deliveryTag: number } }

/** Parts of a connection that amqplib does not document. Without them `force` cannot destroy the socket. */
interface Internals {
  readonly stream?: Socket
  readonly expectSocketClose?: boolean
  readonly channels?: ReadonlyArray<{ readonly channel?: AmqpChannel } | null | undefined>
}

interface TrackedChannel {
  /** Cancels every consumer. */
  cancel (): Promise<void>
  /** Waits until every message is acknowledged and every publish confirmed. */
  settle (): Promise<void>
}

/** Recognises an amqplib connection. */
export const amqpConnectionAdapter: Adapter<AmqpConnection> = {
  kind: 'amqplib connection',
  matches: client => hasMethods(client, 'createChannel', 'createConfirmChannel', 'close', 'on'),
  adapt: amqpConnection
}

/** Recognises an amqplib channel. */
export const amqpChannelAdapter: Adapter<AmqpChannel> = {
  kind: 'amqplib channel',
  matches: client => hasMethods(client, 'consume', 'sendToQueue', 'assertQueue', 'ack', 'close'),
  adapt: amqpChannel
}

/** Turns an amqplib connection with all of its channels into a resource. */
export function amqpConnection (connection: AmqpConnection): Resource {
  const internals = (property(connection, 'connection') ?? {}) as Internals
  const channels = new Set<TrackedChannel>()
  const closing = trackClose(connection, internals.expectSocketClose === true)
  for (const slot of internals.channels ?? []) {
    if (slot?.channel !== undefined && hasMethods(slot.channel, 'consume')) addChannel(slot.channel)
  }
  for (const name of ['createChannel', 'createConfirmChannel']) {
    wrapMethod(connection, name, create => async (...args) => addChannel(await create(...args)))
  }

  return closeOnce({
    pause: () => Promise.all([...channels].map(channel => channel.cancel())),
    close: () => {
      connection.on('error', ignoreError)
      return closing.close(() => Promise.all(
        [...channels].map(async channel => { await channel.cancel(); await channel.settle() })
      ))
    },
    force: () => {
      connection.on('error', ignoreError)
      return destroy(internals)
    }
  })

  function addChannel<T extends AmqpChannel> (channel: T): T {
    const tracked = trackChannel(channel)
    channels.add(tracked)
    channel.on('close', () => { channels.delete(tracked) })
    return channel
  }
}

/**
 * Turns one amqplib channel into a resource. `force` ends its connection too, because a channel has no socket of its
 * own.
 */
export function amqpChannel (channel: AmqpChannel): Resource {
  const tracked = trackChannel(channel)
  const closing = trackClose(channel, false)
  return closeOnce({
    pause: () => tracked.cancel(),
    close: () => closing.close(async () => { await tracked.cancel(); await tracked.settle() }),
    force: () => {
      channel.on('error', ignoreError)
      return destroy((property(channel, 'connection') ?? {}) as Internals)
    }
  })
}

/** Records whether a connection or channel is closed, or its owner is closing it, because a second `close` throws. */
function trackClose (
  client: AmqpConnection | AmqpChannel, isClosedAlready: boolean
): { close (finishWork: () => Promise<unknown>): Promise<void> } {
  let isClosed = isClosedAlready
  let closing: Promise<void> | undefined
  client.on('close', () => { isClosed = true })
  wrapMethod(client, 'close', close => () => {
    const result = close() as Promise<void>
    closing ??= result
    return result
  })
  return {
    async close (finishWork) {
      if (closing === undefined && !isClosed) await finishWork()
      if (closing !== undefined) await closing
      else if (!isClosed) await client.close()
    }
  }
}

// An error is passed, because amqplib rejects pending calls when the socket emits 'error' or 'end', and not when it
// emits 'close'.
async function destroy ({ stream }: Internals): Promise<void> {
  await destroySockets([stream], forcedError('The AMQP connection'))
}

function trackChannel (channel: AmqpChannel): TrackedChannel {
  const consumers = new Set<string>()
  const unacknowledged = new Set<number>()
  const conditions = createConditions()
  let isClosed = false
  channel.on('close', () => { isClosed = true; unacknowledged.clear(); conditions.check() })
  channel.on('error', ignoreError)

  const add = (message: Message | null | false, options?: { noAck?: boolean }): void => {
    if (message !== null && message !== false && options?.noAck !== true) unacknowledged.add(message.fields.deliveryTag)
  }
  const remove = (tag: number): void => { unacknowledged.delete(tag); conditions.check() }
  const removeUpTo = (last: number): void => { for (const tag of [...unacknowledged]) if (tag <= last) remove(tag) }
  wrapMethod(channel, 'consume', consume => async (
    queue: string, callback: (message: Message | null) => void, options?: { noAck?: boolean }
  ) => {
    const reply = await consume(queue, (message: Message | null) => {
      add(message, options)
      return callback(message)
    }, options)
    consumers.add(reply.consumerTag)
    return reply
  })
  wrapMethod(channel, 'get', get => async (queue: string, options?: { noAck?: boolean }) => {
    const message: Message | false = await get(queue, options)
    add(message, options)
    return message
  })
  for (const name of ['ack', 'nack', 'reject']) {
    wrapMethod(channel, name, answer => (message: Message, ...rest: unknown[]) => {
      const result = answer(message, ...rest)
      const { deliveryTag } = message.fields
      const isUpTo = name !== 'reject' && rest[0] === true
      if (isUpTo) removeUpTo(deliveryTag)
      else remove(deliveryTag)
      return result
    })
  }
  for (const name of ['ackAll', 'nackAll']) {
    wrapMethod(channel, name, answer => (...args) => {
      const result = answer(...args)
      removeUpTo(Infinity)
      return result
    })
  }
  wrapMethod(channel, 'cancel', cancel => (tag: string) => { consumers.delete(tag); return cancel(tag) })

  return {
    cancel: async () => { if (!isClosed) await Promise.all([...consumers].map(tag => channel.cancel(tag))) },
    settle: async () => {
      await conditions.until(() => unacknowledged.size === 0)
      if (!isClosed && hasMethods(channel, 'waitForConfirms')) {
        await (property(channel, 'waitForConfirms') as Method).call(channel)
      }
    }
  }
}
