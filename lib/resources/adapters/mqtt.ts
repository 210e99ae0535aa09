/** MQTT.js: `end()` waits for the messages of quality 1 and 2 that are not acknowledged yet; one that is forced forgets them, callbacks included. */
import type { Resource } from '../../../types/index'
import { cut, has, ignore, once } from './adapter'
import type { Adapter, Socket } from './adapter'

export interface MqttClient {
  readonly disconnected: boolean
  end: (...args: any[]) => unknown // any: overloads
  on (event: 'error', listener: (...args: any[]) => void): unknown // any: so that the driver's own type fits
}

interface Undocumented {
  readonly stream?: Socket
  readonly outgoing?: Readonly<Record<string, unknown>>
  removeOutgoingMessage? (id: number): unknown
}

export const mqttAdapter: Adapter<MqttClient> = {
  kind: 'MQTT client',
  matches: client => has(client, 'publish', 'subscribe', 'end', 'reconnect', 'removeOutgoingMessage'),
  adapt: mqttClient
}

/** An MQTT client as a resource: waits for its acknowledgements, then disconnects. */
export function mqttClient (client: MqttClient): Resource {
  const inside = client as Undocumented
  return once({
    close: async () => {
      client.on('error', ignore)
      if (!client.disconnected) await new Promise<void>(resolve => client.end(false, {}, () => resolve()))
    },
    force: async () => {
      client.on('error', ignore)
      client.end(true)
      // Each callback gets an error: "Message removed".
      for (const id of Object.keys(inside.outgoing ?? {})) inside.removeOutgoingMessage?.(Number(id))
      await cut([inside.stream])
    }
  })
}
