/** Publishes the events to diagnostics_channel. Each type has its own channel, such as `fastify-shutdown:phase`. */
import { channel, type Channel } from 'node:diagnostics_channel'
import type { Exporter, ShutdownEvent } from '../../types/index'
import { publish } from '../util/node-internals'

/**
 * Creates the exporter to diagnostics_channel. An event without a subscriber is not created.
 *
 * @param onSubscriberError called with the error of a subscriber. The other subscribers still get the event
 */
export function diagnosticsChannelExporter (onSubscriberError: (error: unknown) => void): Exporter {
  const channels = new Map<string, Channel>()
  return {
    name: 'diagnostics_channel',
    start: ({ listen }) => listen(
      event => { publish(channelOf(event.type), event, onSubscriberError) },
      type => channelOf(type).hasSubscribers
    )
  }

  function channelOf (type: ShutdownEvent['type']): Channel {
    let target = channels.get(type)
    if (target === undefined) channels.set(type, target = channel(`fastify-shutdown:${type}`))
    return target
  }
}
