/**
 * A channel of amqplib (RabbitMQ), the promise API. If a channel closes while a message is still processed, the `ack`
 * that follows throws in the user's code ("Channel closed"), and the broker delivers the message again. So the adapter
 * cancels the consumers first, and closes the channel when every message is acknowledged and every publish confirmed.
 *
 * amqplib has no event for an acknowledgement. So the adapter replaces `consume`, `get`, `ack`, … of the channel.
 */
import type { Resource } from '../../../types/index'
import { createConditions } from '../../util/conditions'
import { closeOnce, forcedError, ignoreError, wrapMethod } from './adapter'
import type { Adapter, Method } from './adapter'
import { destroySockets, type Socket } from './sockets'
import { hasFields, hasMethods, property } from './structure'

/** The part of an amqplib channel that the adapter uses. */
export interface AmqpChannel {
  close (): Promise<void>
  cancel (tag: string): Promise<unknown>
  consume: (...args: any[]) => Promise<any> // any: only passed on
  on (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
}

interface Message { readonly fields: { readonly deliveryTag: number } }

/** A channel whose consumers, messages and publishes are counted. */
export interface TrackedChannel {
  /** Cancels every consumer. */
  cancel (): Promise<void>
  /** Waits until every message is acknowledged. */
  acknowledged (): Promise<void>
  /** Waits until every publish is confirmed. Without confirms, `close` waits for the publishes. */
  confirmed (): Promise<void>
  /** Closes the channel. The broker has handled everything that the channel sent before. */
  close (): Promise<void>
}

/** Recognises an amqplib channel of the promise API. */
export const amqpChannelAdapter: Adapter<AmqpChannel> = {
  kind: 'amqplib channel (promise API)',
  // Its own fields are private. Public alternative: none, because amqplib does not export its classes. The callback
  // API has the same methods, but its `close` takes a callback.
  matches: client => hasFields(client, 'connection', 'ch', 'pending', 'consumers') &&
    hasMethods(client, 'consume', 'sendToQueue', 'assertQueue', 'ack') &&
    isCoreConnection(property(client, 'connection')) &&
    (property(client, 'close') as Method).length === 0,
  adapt: amqpChannel
}

/** Returns whether a value is the connection inside of amqplib's connections and channels. */
export function isCoreConnection (value: unknown): boolean {
  return typeof value === 'object' && value !== null && hasFields(value, 'stream', 'muxer', 'channels', 'freeChannels')
}

/**
 * Turns one amqplib channel into a resource. `force` ends its connection too, because a channel has no socket of its
 * own.
 */
export function amqpChannel (channel: AmqpChannel): Resource {
  const tracked = trackChannel(channel)
  return closeOnce({
    pause: () => tracked.cancel(),
    close: async () => {
      await tracked.cancel()
      await tracked.acknowledged()
      await tracked.confirmed()
      await tracked.close()
    },
    force: () => {
      channel.on('error', ignoreError)
      return destroyConnection(property(channel, 'connection'))
    }
  })
}

/**
 * Destroys the socket of an amqplib connection. An error is passed, because amqplib rejects pending calls when the
 * socket emits 'error' or 'end', and not when it emits 'close'. The field is private. Public alternative: none. Without
 * it, `force` ends nothing.
 */
export async function destroyConnection (connection: unknown): Promise<void> {
  const { stream } = (connection ?? {}) as { readonly stream?: Socket }
  await destroySockets([stream], forcedError('The AMQP connection'))
}

/** Counts the consumers, messages and publishes of a channel from now on. */
export function trackChannel (channel: AmqpChannel): TrackedChannel {
  // The consumers from before are in a private field. Without it, they are not cancelled.
  const earlier = property(channel, 'consumers')
  const consumers = new Set<string>(earlier instanceof Map ? earlier.keys() : [])
  const unacknowledged = new Set<number>()
  const conditions = createConditions()
  let isClosed = false
  let isClosing = false
  channel.on('close', () => { isClosed = true; unacknowledged.clear(); conditions.check() })
  wrapMethod(channel, 'close', close => () => { isClosing = true; return close() })
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
    cancel: async () => { if (isOpen()) await Promise.all([...consumers].map(tag => channel.cancel(tag))) },
    acknowledged: () => conditions.until(() => !isOpen() || unacknowledged.size === 0),
    confirmed: async () => {
      if (isOpen() && hasMethods(channel, 'waitForConfirms')) {
        await (property(channel, 'waitForConfirms') as Method).call(channel)
      }
    },
    close: async () => {
      // A second call throws, and the promise never settles if the connection is lost. The event always comes.
      if (isOpen()) channel.close().catch(ignoreError)
      await conditions.until(() => isClosed)
    }
  }

  function isOpen (): boolean {
    return !isClosed && !isClosing
  }
}
