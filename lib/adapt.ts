/** The door to the adapters: they are loaded when the first client comes, since most services bring two kinds at most. */
import type { Resource } from '../types/index'
import type { AdapterOptions } from './adapter'

/** @throws FST_ERR_SHUTDOWN_CLIENT for an unknown client, with the list of known kinds */
export function adaptClient (client: object, options?: AdapterOptions): Resource {
  const { adapterFor } = require('./adapters/index') as typeof import('./adapters/index')
  return adapterFor(client, options)
}
