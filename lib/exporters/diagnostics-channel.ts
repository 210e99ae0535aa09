/** diagnostics_channel: `fastify-shutdown:phase`, `:report` and so on, one channel for each type of event. */
import { channel, type Channel } from 'node:diagnostics_channel'
import type { Exporter } from '../../types/index'

export function diagnosticsExporter (): Exporter {
  const channels = new Map<string, Channel>()
  return {
    name: 'diagnostics_channel',
    start: ({ listen }) => listen(event => {
      let own = channels.get(event.type)
      if (own === undefined) channels.set(event.type, own = channel(`fastify-shutdown:${event.type}`))
      if (own.hasSubscribers) own.publish(event)
    })
  }
}
