/**
 * Mongoose: a connection, or the namespace with all of its connections. Each has a MongoClient, whose `close()` ends
 * the operations that run (see `mongodb.ts`), so the adapter waits for them first.
 */
import type { Resource } from '../../../types/index'
import { within } from '../../util/time'
import { closeOnce } from './adapter'
import type { Adapter } from './adapter'
import { trackOperations, type MongoClient } from './mongodb'
import { hasFields, hasMethods, isObject, property } from './structure'

/** The part of a mongoose connection that the adapter uses. */
export interface MongooseConnection {
  readonly readyState: number
  close (force?: boolean): Promise<void>
  getClient (): unknown
  on (event: 'connected', listener: () => void): unknown
}

/** The part of the mongoose namespace that the adapter uses. */
export interface Mongoose {
  readonly connections: readonly any[] // any: mongoose's own type
  disconnect (): Promise<void>
}

/** Recognises mongoose, or a Mongoose instance. */
export const mongooseAdapter: Adapter<Mongoose> = {
  kind: 'mongoose',
  matches: client => hasFields(client, 'connections', 'models', 'options') &&
    Array.isArray(property(client, 'connections')) && hasMethods(client, 'createConnection', 'connect', 'disconnect'),
  adapt: mongoose
}

/** Recognises a connection of mongoose. */
export const mongooseConnectionAdapter: Adapter<MongooseConnection> = {
  kind: 'mongoose Connection',
  matches: client => hasFields(client, 'base', 'collections', 'models', '_readyState') &&
    isObject(property(client, 'base')) && hasMethods(client, 'openUri', 'getClient', 'asPromise', 'close', 'on'),
  adapt: mongooseConnection
}

/** Longest time that a connection which is not open gets to open, in milliseconds. */
const openTimeout = 250

/** The value of `readyState` while a connection opens. `mongoose.STATES` documents it. */
const connecting = 2

/** Turns a connection of mongoose into a resource: it waits for its operations; `force` ends them. */
export function mongooseConnection (connection: MongooseConnection): Resource {
  const tracked = trackConnection(connection)
  return closeOnce({
    close: () => tracked.close(),
    force: () => tracked.force()
  })
}

/** Turns mongoose with all of its connections into a resource. */
export function mongoose (instance: Mongoose): Resource {
  const tracked = new Map<MongooseConnection, TrackedConnection>()
  trackAll()
  return closeOnce({
    close: async () => {
      await Promise.all(trackAll().map(connection => connection.close()))
      await instance.disconnect()
    },
    force: async () => { await Promise.all(trackAll().map(connection => connection.force())) }
  })

  function trackAll (): TrackedConnection[] {
    for (const connection of instance.connections as readonly MongooseConnection[]) {
      if (!tracked.has(connection)) tracked.set(connection, trackConnection(connection))
    }
    return [...tracked.values()]
  }
}

interface TrackedConnection {
  close (): Promise<void>
  force (): Promise<void>
}

/** Counts the operations of a connection from now on. */
function trackConnection (connection: MongooseConnection): TrackedConnection {
  let client: MongoClient | undefined
  let idle = async (): Promise<void> => {}
  track()
  connection.on('connected', track)
  return {
    async close () {
      if (connection.readyState === connecting) await within(openTimeout, () => opened())
      track()
      await idle()
      await end(false)
    },
    force: () => end(true)
  }

  // `close()` of a connection that opens waits until it is open. Its client can be closed.
  async function end (isForced: boolean): Promise<void> {
    if (connection.readyState === connecting) await client?.close(isForced)
    await connection.close(isForced)
  }

  function opened (): Promise<void> {
    return new Promise(resolve => { connection.on('connected', resolve) })
  }

  // A connection gets its client when it opens, and another one when it opens again.
  function track (): void {
    const current = connection.getClient()
    if (current === client || !isObject(current)) return
    client = current as MongoClient
    idle = trackOperations(client)
  }
}
