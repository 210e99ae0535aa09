/** Publishes the events to diagnostics_channel. Each type has its own channel, such as `fastify-shutdown:phase`. */
import { channel, type Channel } from 'node:diagnostics_channel'
import type { Exporter } from '../../types/index'

/** Creates the exporter to diagnostics_channel. An event without a subscriber costs one look-up. */
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
