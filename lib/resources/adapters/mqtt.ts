/**
 * MQTT.js. `end()` waits until the messages of QoS 1 and 2 are acknowledged. It drops the messages that wait for a
 * connection, and a forced `end(true)` drops all, without a callback. So the adapter counts the calls of `publish`.
 */
import type { Resource } from '../../../types/index'
import { createConditions } from '../../util/conditions'
import { closeOnce, forcedError, ignoreError, wrapMethod } from './adapter'
import type { Adapter } from './adapter'
import { destroySockets, waitForSocketsToClose, type Socket } from './sockets'
import { hasFields, hasMethods } from './structure'

/** The part of an MQTT client that the adapter uses. */
export interface MqttClient {
  readonly disconnected: boolean
  readonly disconnecting: boolean
  end: (...args: any[]) => unknown // any: overloads
  on (event: 'error', listener: (...args: any[]) => void): unknown // any: so that the driver's own type fits
  once (event: 'end', listener: () => void): unknown
}

/**
 * Parts that MQTT.js does not document. Public alternative: none. Without them a publish that `force` ends never
 * settles.
 */
interface Internals {
  /** Messages that wait for a connection. */
  readonly queue?: Array<{ cb? (error: Error): void }>
  readonly stream?: Socket
  readonly outgoing?: Readonly<Record<string, unknown>>
  removeOutgoingMessage? (id: number): unknown
}

/** Recognises an MQTT client. */
export const mqttAdapter: Adapter<MqttClient> = {
  kind: 'MQTT client',
  matches: client => hasFields(client, 'outgoing', 'outgoingStore', 'options') &&
    hasMethods(client, 'publish', 'subscribe', 'end', 'reconnect', 'removeOutgoingMessage', 'on'),
  adapt: mqttClient
}

/** Turns an MQTT client into a resource: it waits for the acknowledgements, then disconnects. */
export function mqttClient (client: MqttClient): Resource {
  const internals = client as Internals
  const conditions = createConditions()
  let pending = 0
  client.once('end', () => conditions.check())
  wrapMethod(client, 'publish', publish => (topic: unknown, message: unknown, ...rest: unknown[]) => {
    const callback = rest.at(-1)
    const options = typeof rest[0] === 'function' ? undefined : rest[0]
    pending++
    return publish(topic, message, options, (...result: unknown[]) => {
      pending--
      conditions.check()
      if (typeof callback === 'function') callback(...result)
    })
  })

  return closeOnce({
    close: async () => {
      client.on('error', ignoreError)
      await conditions.until(() => pending === 0 || client.disconnecting || client.disconnected)
      const { stream } = internals
      // A second `end()` calls its callback at once, while the first call is still pending.
      if (client.disconnecting && !client.disconnected) await new Promise<void>(resolve => client.once('end', resolve))
      else if (!client.disconnected) await new Promise<void>(resolve => client.end(false, {}, () => resolve()))
      await waitForSocketsToClose([stream])
    },
    force: async () => {
      client.on('error', ignoreError)
      client.end(true)
      // Each callback gets the error "Message removed".
      for (const id of Object.keys(internals.outgoing ?? {})) internals.removeOutgoingMessage?.(Number(id))
      for (const { cb } of internals.queue?.splice(0) ?? []) cb?.(forcedError('The MQTT client'))
      await destroySockets([internals.stream])
    }
  })
}
