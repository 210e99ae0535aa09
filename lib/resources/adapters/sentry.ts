/**
 * Sentry: its client (`Sentry.getClient()`) or its namespace (`import * as Sentry`). It is flushed and not closed,
 * because an error of the rest of the shutdown may come later. The resource is `last`.
 */
import type { Resource } from '../../../types/index'
import { closeOnce } from './adapter'
import type { Adapter } from './adapter'
import { hasFields, hasMethods } from './structure'

/** The part of Sentry that the adapter uses. */
export interface Sentry {
  /** Resolves to `false` if events are left. */
  flush (timeout?: number): PromiseLike<boolean>
  close (timeout?: number): PromiseLike<boolean>
  /** Only the namespace has it. It returns `undefined` before `Sentry.init()`. */
  getClient? (): unknown
}

/** Recognises Sentry's client or namespace. */
export const sentryAdapter: Adapter<Sentry> = {
  kind: 'Sentry client or namespace',
  // The first is a private field of the client, the second is public.
  matches: client => hasMethods(client, 'flush', 'close', 'captureException', 'captureMessage') &&
    ((hasFields(client, '_options', '_integrations') && hasMethods(client, 'getDsn', 'getTransport')) ||
      hasMethods(client, 'getClient', 'withScope', 'init')),
  adapt: sentry
}

/** Turns Sentry into a resource: `close` waits until its events are sent, `force` drops the rest. */
export function sentry (client: Sentry): Resource {
  return closeOnce({
    last: true,
    close: async () => {
      const isInitialised = client.getClient === undefined || client.getClient() !== undefined
      if (isInitialised && !await client.flush()) throw new Error('Sentry did not send all events')
    },
    force: async () => { await client.close(1) }
  })
}
