/**
 * kafkajs: consumer, producer and admin client. A consumer's `stop()` fetches no more and waits for the messages that
 * are being worked on, whose offsets it commits; `disconnect()` waits for the requests under way. There is no way to
 * force either (kafkajs 2 hides its sockets): where one hangs it is abandoned, and its partitions move on when the
 * group's session times out.
 */
import type { Resource } from '../../../types/index'
import { has, once } from './adapter'
import type { Adapter } from './adapter'

export interface KafkaClient {
  disconnect (): Promise<void>
}

export const kafkaAdapter: Adapter<KafkaClient> = {
  kind: 'kafkajs consumer, producer or admin',
  matches: client => has(client, 'connect', 'disconnect', 'on', 'logger'),
  adapt: kafkaClient
}

/** A kafkajs client as a resource. */
export function kafkaClient (client: KafkaClient): Resource {
  const consumer = client as KafkaClient & { stop? (): Promise<void> }
  return once({
    ...(consumer.stop === undefined ? {} : { pause: () => consumer.stop?.() }),
    close: () => client.disconnect()
  })
}
