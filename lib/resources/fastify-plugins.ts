/**
 * Pools of @fastify/postgres and clients of @fastify/redis become resources by themselves. They are found by object, not by
 * plugin name, which Fastify does not tell reliably. Their plugins' own hooks stay where they are; when one calls `end()` or
 * `quit()`, that is the place from which the resource may close, and the real work is done once, in its turn.
 */
import type { FastifyInstance } from 'fastify'
import type { Resource } from '../../types/index'
import type { Adapt } from './resource'
import type { Teardown } from './teardown'

export interface Adopted {
  readonly name: string
  readonly resource: Resource
}

type Method = 'end' | 'quit'

/** @returns what these instances brought, each object once */
export function adopt (instances: Iterable<FastifyInstance>, adapt: Adapt, teardown: () => Teardown | null, declared: (name: string) => boolean): Adopted[] {
  const seen = new WeakSet<object>()
  const found: Adopted[] = []
  for (const instance of instances) {
    const { pg, redis } = instance as unknown as { pg?: unknown, redis?: unknown }
    for (const [name, pool] of pools(pg)) take(name, pool, 'end')
    for (const [name, client] of clients(redis)) take(name, client, 'quit')
  }
  return found

  function take (name: string, client: object, method: Method): void {
    if (seen.has(client)) return
    seen.add(client)
    const own = unusedName(name)
    const adapted = adapt(client)
    const gate = guard(client as Record<Method, unknown>, method, adapted, () => teardown()?.open(own), () => teardown() !== null)
    // A client that was made elsewhere and handed to @fastify/redis is left open by it, so it is by us, unless told otherwise.
    const wanted = declared(own)
    found.push({ name: own, resource: { ...adapted, close: signal => gate.asked() || wanted ? gate.close(signal) : undefined } })
  }

  /** Each context may have registered the same plugin for itself: 'redis', 'redis#2' and so on. */
  function unusedName (name: string): string {
    let own = name
    for (let count = 2; found.some(other => other.name === own); count++) own = `${name}#${count}`
    return own
  }
}

/**
 * Let `client[method]` be called as often as anyone likes: the second `pool.end()` and `quit()` on an ended client reject, and
 * `app.close()` with them. During the teardown the call is only a sign that this is the resource's place.
 */
function guard (client: Record<Method, unknown>, method: Method, adapted: Resource, onPlace: () => void, tearingDown: () => boolean): { asked(): boolean, close(signal: AbortSignal): void | Promise<void> } {
  let asked = false
  let ours = false
  const close = (signal: AbortSignal): void | Promise<void> => adapted.close?.(signal)
  client[method] = (callback?: (error?: unknown) => void): Promise<unknown> | undefined => {
    const isSign = tearingDown() && !ours
    if (isSign) {
      asked = true
      onPlace()
    }
    // Its adapter closes once, however often it is asked.
    const answer = Promise.resolve(isSign ? undefined : close(new AbortController().signal)).then(() => method === 'quit' ? 'OK' : undefined)
    if (typeof callback !== 'function') return answer
    answer.then(() => callback(), callback)
    return undefined
  }
  return {
    asked: () => asked,
    close (signal) {
      ours = true
      return close(signal)
    }
  }
}

function pools (pg: unknown): [string, object][] {
  if (typeof pg !== 'object' || pg === null) return []
  const named: [string, object][] = Object.entries(pg).flatMap(([name, each]) => hasPool(each) ? [[`postgres:${name}`, each.pool]] : [])
  return hasPool(pg) ? [['postgres', pg.pool], ...named] : named
}

function hasPool (value: unknown): value is { pool: object } {
  const pool = (value as { pool?: { end?: unknown, connect?: unknown } } | null | undefined)?.pool
  return typeof pool?.end === 'function' && typeof pool.connect === 'function'
}

function clients (redis: unknown): [string, object][] {
  if (typeof redis !== 'object' || redis === null) return []
  // A default client carries the named ones as properties of its own.
  const named: [string, object][] = Object.entries(redis).flatMap(([name, each]) => isRedis(each) ? [[`redis:${name}`, each]] : [])
  return isRedis(redis) ? [['redis', redis], ...named] : named
}

function isRedis (value: unknown): value is object {
  const client = value as { quit?: unknown, disconnect?: unknown } | null | undefined
  return typeof client?.quit === 'function' && typeof client.disconnect === 'function'
}
