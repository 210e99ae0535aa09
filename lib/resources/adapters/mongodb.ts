/**
 * MongoClient of mongodb. Its `close()` ends connections that wait for an answer (mongodb 7, mongo_client.js). So the
 * adapter calls it when all connections are returned to their pools. It counts them through the driver's connection
 * pool events.
 */
import type { Resource } from '../../../types/index'
import { createConditions } from '../../util/conditions'
import { closeOnce } from './adapter'
import type { Adapter } from './adapter'
import { hasFields, hasMethods, isObject, property } from './structure'

/** The part of a MongoClient that the adapter uses. */
export interface MongoClient {
  close (force?: boolean): Promise<void>
  on (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
}

/** Recognises a MongoClient. */
export const mongoAdapter: Adapter<MongoClient> = {
  kind: 'mongodb MongoClient',
  matches: client => {
    const state = hasFields(client, 's') ? property(client, 's') : undefined
    return isObject(state) && hasFields(state, 'url', 'namespace') &&
      hasMethods(client, 'connect', 'db', 'startSession', 'close', 'on')
  },
  adapt: mongoClient
}

/**
 * Turns a MongoClient into a resource. Create it together with the client, because it counts connections from then on.
 */
export function mongoClient (client: MongoClient): Resource {
  const idle = trackOperations(client)
  return closeOnce({
    close: async () => {
      await idle()
      await client.close()
    },
    force: () => client.close(true)
  })
}

/** Counts the connections that operations use. @returns a function that waits until none is in use */
export function trackOperations (client: MongoClient): () => Promise<void> {
  const conditions = createConditions()
  let checkedOut = 0
  const checkIn = (): void => {
    if (checkedOut > 0) checkedOut--
    conditions.check()
  }
  client.on('connectionCheckOutStarted', () => { checkedOut++ })
  client.on('connectionCheckOutFailed', checkIn)
  client.on('connectionCheckedIn', checkIn)
  return () => conditions.until(() => checkedOut === 0)
}
