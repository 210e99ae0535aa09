/**
 * mongodb's MongoClient. `close()` first cuts the connections that wait for an answer (mongodb 7, mongo_client.js), so it
 * is called when all are back in their pools, as the driver's own events for connection pools tell.
 */
import type { Resource } from '../../../types/index'
import { has, once } from './adapter'
import type { Adapter } from './adapter'

export interface MongoClient {
  close (force?: boolean): Promise<void>
  on (event: string, listener: (...args: any[]) => void): unknown // any: each event has its own arguments
}

export const mongoAdapter: Adapter<MongoClient> = {
  kind: 'mongodb MongoClient',
  matches: client => has(client, 'db', 'startSession', 'close', 'on'),
  adapt: mongoClient
}

/** A MongoClient as a resource. Counts from the moment that the adapter is made: make it with the client. */
export function mongoClient (client: MongoClient): Resource {
  let atWork = 0
  let idle = (): void => {}
  const leave = (): void => { if (atWork > 0 && --atWork === 0) idle() }
  client.on('connectionCheckOutStarted', () => { atWork++ })
  client.on('connectionCheckOutFailed', leave)
  client.on('connectionCheckedIn', leave)

  return once({
    close: async () => {
      if (atWork > 0) await new Promise<void>(resolve => { idle = resolve })
      await client.close()
    },
    force: () => client.close(true)
  })
}
