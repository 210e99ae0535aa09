/**
 * amqplib (RabbitMQ), the promise API. Closing a connection while a message is still worked on makes the `ack` that
 * follows throw in the user's own code ("Channel closed"), and the broker delivers the message again. So consumers are
 * cancelled first, and the connection is closed when every message that came is acknowledged, and every publish confirmed.
 *
 * Which messages are out is known by standing in front of `consume`, `get`, `ack`, … of each channel, since amqplib has
 * no event for it: of those that are open when the adapter is made, and of all later ones.
 */
import type { Resource } from '../../../types/index'
import { cut, field, forcedError, has, ignore, once } from './adapter'
import type { Adapter, Socket } from './adapter'

export interface AmqpConnection {
  close (): Promise<void>
  createChannel: (...args: any[]) => Promise<any> // any: the channel is only handed through
  on (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
}

export interface AmqpChannel {
  close (): Promise<void>
  cancel (tag: string): Promise<unknown>
  consume: (...args: any[]) => Promise<any> // any: handed through
  on (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
}

interface Message { readonly fields: { readonly deliveryTag: number } }

interface Core {
  readonly stream?: Socket
  readonly expectSocketClose?: boolean
  readonly channels?: ReadonlyArray<{ readonly channel?: AmqpChannel } | null | undefined>
}

interface Seen {
  cancel (): Promise<void>
  settle (): Promise<void>
}

type Method = (...args: any[]) => any // any: handed through

export const amqpConnectionAdapter: Adapter<AmqpConnection> = {
  kind: 'amqplib connection',
  matches: client => has(client, 'createChannel', 'createConfirmChannel', 'close', 'on'),
  adapt: amqpConnection
}

export const amqpChannelAdapter: Adapter<AmqpChannel> = {
  kind: 'amqplib channel',
  matches: client => has(client, 'consume', 'sendToQueue', 'assertQueue', 'ack', 'close'),
  adapt: amqpChannel
}

/** An amqplib connection and all of its channels as a resource. */
export function amqpConnection (connection: AmqpConnection): Resource {
  const core = (field(connection, 'connection') ?? {}) as Core
  const seen = new Set<Seen>()
  let closed = core.expectSocketClose === true
  for (const slot of core.channels ?? []) if (slot?.channel !== undefined && has(slot.channel, 'consume')) watch(slot.channel)
  for (const name of ['createChannel', 'createConfirmChannel']) {
    wrap(connection, name, create => async (...args) => watch(await create(...args)))
  }
  connection.on('close', () => { closed = true })

  return once({
    pause: () => Promise.all([...seen].map(channel => channel.cancel())),
    close: async () => {
      if (closed) return
      connection.on('error', ignore)
      await Promise.all([...seen].map(async channel => { await channel.cancel(); await channel.settle() }))
      if (!closed) await connection.close()
    },
    force: () => { connection.on('error', ignore); return drop(core) }
  })

  function watch<T extends AmqpChannel> (channel: T): T {
    const each = see(channel)
    seen.add(each)
    channel.on('close', () => { seen.delete(each) })
    return channel
  }
}

/** One amqplib channel as a resource; forced, its connection goes with it. */
export function amqpChannel (channel: AmqpChannel): Resource {
  const seen = see(channel)
  let closed = false
  channel.on('close', () => { closed = true })
  return once({
    pause: () => seen.cancel(),
    close: async () => {
      if (closed) return
      await seen.cancel()
      await seen.settle()
      if (!closed) await channel.close()
    },
    force: () => {
      channel.on('error', ignore)
      return drop((field(channel, 'connection') ?? {}) as Core)
    }
  })
}

// The socket's 'error' and 'end' are what amqplib listens to; with neither, nothing that waits is rejected.
async function drop ({ stream }: Core): Promise<void> {
  await cut([stream], forcedError('The AMQP connection'))
}

function see (channel: AmqpChannel): Seen {
  const tags = new Set<string>()
  const out = new Set<number>()
  let settled = (): void => {}
  let over = false
  channel.on('close', () => { over = true; out.clear(); settled() })
  channel.on('error', ignore)

  const give = (tag: number): void => { out.delete(tag); if (out.size === 0) settled() }
  const giveUpTo = (last: number): void => { for (const tag of [...out]) if (tag <= last) give(tag) }
  wrap(channel, 'consume', consume => async (queue: string, callback: (message: Message | null) => void, options?: { noAck?: boolean }) => {
    const reply = await consume(queue, (message: Message | null) => {
      if (message !== null && options?.noAck !== true) out.add(message.fields.deliveryTag)
      return callback(message)
    }, options)
    tags.add(reply.consumerTag)
    return reply
  })
  wrap(channel, 'get', get => async (queue: string, options?: { noAck?: boolean }) => {
    const message: Message | false = await get(queue, options)
    if (message !== false && options?.noAck !== true) out.add(message.fields.deliveryTag)
    return message
  })
  for (const name of ['ack', 'nack', 'reject']) {
    wrap(channel, name, answer => (message: Message, ...rest: unknown[]) => {
      const result = answer(message, ...rest)
      const upTo = name !== 'reject' && rest[0] === true
      if (upTo) giveUpTo(message.fields.deliveryTag)
      else give(message.fields.deliveryTag)
      return result
    })
  }
  for (const name of ['ackAll', 'nackAll']) {
    wrap(channel, name, answer => (...args) => { const result = answer(...args); giveUpTo(Infinity); return result })
  }
  wrap(channel, 'cancel', cancel => (tag: string) => { tags.delete(tag); return cancel(tag) })

  return {
    cancel: async () => { if (!over) await Promise.all([...tags].map(tag => channel.cancel(tag))) },
    settle: async () => {
      if (out.size > 0) await new Promise<void>(resolve => { settled = resolve })
      if (!over && has(channel, 'waitForConfirms')) await (field(channel, 'waitForConfirms') as Method).call(channel)
    }
  }
}

function wrap (client: object, name: string, around: (method: Method) => Method): void {
  const method = field(client, name)
  if (typeof method === 'function') Object.assign(client, { [name]: around(method.bind(client)) })
}
