/** Publishes the events to diagnostics_channel, in one channel for each type: `fastify-shutdown:phase` and so on. */
import { channel, type Channel } from 'node:diagnostics_channel'
import type { Exporter } from '../../types/index'

/** An exporter to diagnostics_channel. An event without a subscriber costs one look-up. */
export function diagnosticsChannelExporter (): Exporter {
  const channels = new Map<string, Channel>()
  return {
    name: 'diagnostics_channel',
    start: ({ listen }) => listen(event => {
      let target = channels.get(event.type)
      if (target === undefined) channels.set(event.type, target = channel(`fastify-shutdown:${event.type}`))
      if (target.hasSubscribers) target.publish(event)
    })
  }
}
