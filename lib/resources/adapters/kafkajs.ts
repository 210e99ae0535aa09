/**
 * kafkajs: consumer, producer and admin client. `stop()` of a consumer fetches no more, waits for the messages that are
 * being processed and commits their offsets. `disconnect()` waits for the pending requests; a message whose
 * request has not begun would be lost, so the adapter first waits for the calls of `send`. kafkajs 2 does not expose
 * its sockets, so there is no `force`: a client that hangs is abandoned, and its partitions move when the group's
 * session times out.
 */
import type { Resource } from '../../../types/index'
import { closeOnce, trackCalls } from './adapter'
import type { Adapter } from './adapter'
import { hasFields, hasMethods, isObject, property } from './structure'

/** The part of a kafkajs client that the adapter uses. */
export interface KafkaClient {
  disconnect (): Promise<void>
}

/** Recognises a kafkajs consumer, producer or admin client. */
export const kafkaAdapter: Adapter<KafkaClient> = {
  kind: 'kafkajs consumer, producer or admin',
  // Each kind has a list of its own events, such as `producer.connect`. This is documented.
  matches: client => {
    const events = hasFields(client, 'events') ? property(client, 'events') : undefined
    return isObject(events) && /^(?:consumer|producer|admin)\.connect$/.test(String(property(events, 'CONNECT'))) &&
      hasMethods(client, 'connect', 'disconnect', 'on', 'logger')
  },
  adapt: kafkaClient
}

/** Turns a kafkajs client into a resource. */
export function kafkaClient (client: KafkaClient): Resource {
  const consumer = client as KafkaClient & { stop? (): Promise<void> }
  const sent = trackCalls(client, 'send', 'sendBatch')
  return closeOnce({
    ...(consumer.stop === undefined ? {} : { pause: () => consumer.stop?.() }),
    close: async () => {
      await sent()
      await client.disconnect()
    }
  })
}
