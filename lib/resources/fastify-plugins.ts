/**
 * Adopts the pools of @fastify/postgres and the clients of @fastify/redis. They are found through the decorators,
 * because Fastify's plugin names are not reliable. The onClose hooks of these plugins still run in their order. If a
 * hook calls `end()` or `quit()`, this only allows the resource to close. The resource closes the client once, after
 * its dependants.
 */
import type { FastifyInstance } from 'fastify'
import type { Resource } from '../../types/index'
import { ShutdownClientError } from '../errors'
import { replaceMethod } from '../util/replaced-methods'
import type { Adapt } from './resource'
import type { Teardown } from './teardown'

/** An adopted client as a resource. */
export interface AdoptedResource {
  readonly name: string
  readonly resource: Resource
  /** Gives the client its own method back. */
  restore(): void
}

type CloseMethod = 'end' | 'quit'

/**
 * Adopts the clients that plugins have added to these instances.
 *
 * @param teardown returns the teardown that has begun, or `null`
 * @param isDeclared whether the user declared a resource of this name
 * @returns the clients as resources, each client once
 */
export function adoptClients (
  instances: Iterable<FastifyInstance>,
  adapt: Adapt,
  teardown: () => Teardown | null,
  isDeclared: (name: string) => boolean
): AdoptedResource[] {
  const seen = new WeakSet<object>()
  const adopted: AdoptedResource[] = []
  for (const instance of instances) {
    const { pg, redis } = instance as unknown as { pg?: unknown, redis?: unknown }
    for (const [name, pool] of poolsOf(pg)) adoptClient(name, pool, 'end')
    for (const [name, client] of clientsOf(redis)) adoptClient(name, client, 'quit')
  }
  return adopted

  function adoptClient (wanted: string, client: object, method: CloseMethod): void {
    if (seen.has(client)) return
    seen.add(client)
    const resource = adaptKnown(client)
    if (resource === undefined) return
    const name = unusedName(wanted)
    const intercepted = interceptMethod(client as Record<CloseMethod, unknown>, method, resource, {
      isTearingDown: () => teardown() !== null,
      onCall: () => teardown()?.allow(name)
    })
    // @fastify/redis does not close a client that it has not created. Here it also stays open, unless the user declared
    // it.
    const closesAlways = isDeclared(name)
    adopted.push({
      name,
      restore: intercepted.restore,
      resource: {
        ...intercepted.resource,
        close: signal => closesAlways || intercepted.wasCalled() ? intercepted.close(signal) : undefined
      }
    })
  }

  /** Returns `undefined` for an object that only looks like a client, such as a mock. Its plugin closes it. */
  function adaptKnown (client: object): Resource | undefined {
    try {
      return adapt(client)
    } catch (error) {
      if (error instanceof ShutdownClientError) return undefined
      throw error
    }
  }

  /** Returns `redis`, `redis#2` and so on, because each context may register the same plugin. */
  function unusedName (wanted: string): string {
    let name = wanted
    for (let count = 2; adopted.some(other => other.name === name); count++) name = `${wanted}#${count}`
    return name
  }
}

interface Intercepted {
  readonly resource: Resource
  restore(): void
  /** Whether `client[method]` was called during the teardown. */
  wasCalled(): boolean
  /** Closes the client through its adapter. */
  close(signal: AbortSignal): void | Promise<void>
}

/**
 * Replaces `client[method]`. During the teardown, a call only reports that the resource may close. Otherwise it closes
 * the client through its adapter, which closes once. Without that, a second `pool.end()` or `quit()` would reject, and
 * `app.close()` with it.
 */
function interceptMethod (
  client: Record<CloseMethod, unknown>,
  method: CloseMethod,
  resource: Resource,
  { isTearingDown, onCall }: { isTearingDown(): boolean, onCall(): void }
): Intercepted {
  let wasCalled = false
  let isClosing = false
  const close = (signal: AbortSignal): void | Promise<void> => resource.close?.(signal)
  const restore = replaceMethod(client, method, () => (
    callback?: (error?: unknown) => void
  ): Promise<unknown> | undefined => {
    const onlyReports = isTearingDown() && !isClosing
    if (onlyReports) {
      wasCalled = true
      onCall()
    }
    const closed = onlyReports ? undefined : close(new AbortController().signal)
    const result = Promise.resolve(closed).then(() => method === 'quit' ? 'OK' : undefined)
    if (typeof callback !== 'function') return result
    result.then(() => callback(), callback)
    return undefined
  })
  return {
    resource,
    restore,
    wasCalled: () => wasCalled,
    close (signal) {
      isClosing = true
      return close(signal)
    }
  }
}

function poolsOf (pg: unknown): [name: string, pool: object][] {
  if (typeof pg !== 'object' || pg === null) return []
  const named: [string, object][] = Object.entries(pg)
    .flatMap(([name, value]) => hasPool(value) ? [[`postgres:${name}`, value.pool]] : [])
  return hasPool(pg) ? [['postgres', pg.pool], ...named] : named
}

function hasPool (value: unknown): value is { pool: object } {
  const pool = (value as { pool?: { end?: unknown, connect?: unknown } } | null | undefined)?.pool
  return typeof pool?.end === 'function' && typeof pool.connect === 'function'
}

function clientsOf (redis: unknown): [name: string, client: object][] {
  if (typeof redis !== 'object' || redis === null) return []
  // The default client has the named clients as its own properties.
  const named: [string, object][] = Object.entries(redis)
    .flatMap(([name, value]) => isRedis(value) ? [[`redis:${name}`, value]] : [])
  return isRedis(redis) ? [['redis', redis], ...named] : named
}

function isRedis (value: unknown): value is object {
  const client = value as { quit?: unknown, disconnect?: unknown } | null | undefined
  return typeof client?.quit === 'function' && typeof client.disconnect === 'function'
}
