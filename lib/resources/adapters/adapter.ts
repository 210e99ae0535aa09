/**
 * The contract of an adapter, which turns a known client into a resource. No adapter imports a driver: a client is
 * recognised by the fields in which its library keeps its state, so a second copy of a library, or a minified one, is
 * recognised too. An object of the app that only has methods of the same names is refused, because closing it might end
 * something else. Most of these fields are private. Public alternative: `instanceof`, which needs an import of the
 * library, and fails for a second copy. Without them, the client is refused, and its owner passes a resource.
 */
import { types } from 'node:util'
import type { Resource } from '../../../types/index'
import { ShutdownClientError } from '../../errors'
import { turn } from '../../util/time'
import { isObject, property } from './structure'

/** Options of an adapter. */
export interface AdapterOptions {
  /**
   * Whether to record the stack trace of the code that takes a client from the pool. It costs time at each call.
   * @default false
   */
  readonly detail?: boolean
}

/** One kind of client. */
export interface Adapter<Client extends object = object> {
  /** The name of the kind in an error message, such as `pg Pool`. */
  readonly kind: string
  /** Returns whether a client is of this kind. */
  matches (client: object): boolean
  /**
   * Whether a client of this kind may be a Proxy. Of other kinds a Proxy is refused, because its handler decides what
   * each field and each call is: pass its target.
   * @default false
   */
  readonly mayBeProxy?: boolean
  /** Turns a client that matches into a resource. */
  adapt (client: Client, options?: AdapterOptions): Resource
}

/**
 * Creates a function that turns a client into a resource. It uses the first adapter that matches, so the most specific
 * adapter comes first. The same client always has the same resource, because an adapter adds listeners to its client.
 *
 * @throws FST_ERR_SHUTDOWN_CLIENT if no adapter matches
 */
export function adapterFinder (adapters: readonly Adapter[]): (client: object, options?: AdapterOptions) => Resource {
  const resources = new WeakMap<object, Resource>()
  return (client, options) => {
    const known = resources.get(client)
    if (known !== undefined) return known
    const isProxy = types.isProxy(client)
    const adapter = adapters.find(each => (each.mayBeProxy === true || !isProxy) && isOfKind(each, client))
    if (adapter === undefined) {
      const what = isProxy ? 'a Proxy: pass its target' : describe(client)
      throw new ShutdownClientError(what, adapters.map(({ kind }) => kind).join(', '))
    }
    const resource = adapter.adapt(client, options)
    resources.set(client, resource)
    return resource
  }
}

// A getter of an object that is no client may throw.
function isOfKind (adapter: Adapter, client: object): boolean {
  try {
    return adapter.matches(client)
  } catch {
    return false
  }
}

const bases: readonly unknown[] = [Object.prototype, Function.prototype]

// Not only the constructor's name, because it is often 'Object', or one letter.
function describe (client: object): string {
  const prototype: unknown = Object.getPrototypeOf(client)
  const names = [client, prototype]
    .flatMap(each => isObject(each) && !bases.includes(each) ? Object.getOwnPropertyNames(each) : [])
    .filter(name => name !== 'constructor' && !name.startsWith('_')).slice(0, 8)
  const constructor = isObject(prototype) ? Object.getOwnPropertyDescriptor(prototype, 'constructor')?.value : undefined
  const name = typeof constructor === 'function' ? String(constructor.name) : 'no constructor'
  return `${name}, with ${names.join(', ') || 'no properties'}`
}

/** The actions that pause, close and force a client. */
export interface ClientActions {
  /** As in a resource. @default false */
  readonly last?: boolean
  /** Stops taking new work. */
  pause?(): unknown
  /** Finishes the work and closes the client. Called at most once, and never after `force`. */
  close(): unknown
  /** Closes the client at once. Called at most once. */
  force?(): unknown
  /** Returns details of the client for the report. */
  detail?(): Readonly<Record<string, unknown>> | undefined
}

/**
 * Creates a resource that closes its client once, because many drivers reject a second call (pg-pool: "Called end on
 * pool more than once"). The client closes one turn of the event loop after the call: a query that was called just
 * before may request its connection a little later. After `force`, a pending `close` also resolves, even if the driver
 * never settles its promise.
 */
export function closeOnce ({
  close, force, pause, detail, last
}: ClientActions): Required<Pick<Resource, 'close'>> & Resource {
  let closing: Promise<void> | undefined
  let forcing: Promise<void> | undefined
  let resolveForced = (): void => {}
  const forced = new Promise<void>(resolve => { resolveForced = resolve })
  return {
    ...(pause === undefined ? {} : { pause: async () => { await pause() } }),
    ...(detail === undefined ? {} : { detail }),
    ...(last === undefined ? {} : { last }),
    close: () => (closing ??= forcing ?? Promise.race([forced, turn().then(closeUnlessForced).catch(onCloseError)])),
    ...(force === undefined ? {} : { force: () => (forcing ??= run(force).finally(resolveForced)) })
  }

  async function closeUnlessForced (): Promise<void> {
    if (forcing === undefined) await close()
  }

  // After `force`, an error of `close` is expected.
  function onCloseError (error: unknown): Promise<void> {
    if (forcing === undefined) throw error
    return forced
  }
}

// Turns a synchronous throw of a driver into a rejection.
async function run (action: () => unknown): Promise<void> {
  await action()
}

/**
 * Replaces methods that return promises, to record which calls are pending.
 *
 * @returns a function that waits until no call is pending
 */
export function trackCalls (client: object, ...names: readonly string[]): () => Promise<void> {
  const pending = new Set<Promise<unknown>>()
  for (const name of names) {
    wrapMethod(client, name, method => (...args) => {
      const result: unknown = method(...args)
      if (result instanceof Promise) {
        const remove = (): void => { pending.delete(result) }
        pending.add(result)
        result.then(remove, remove)
      }
      return result
    })
  }
  return async () => {
    while (pending.size > 0) await Promise.allSettled(pending)
  }
}

/** Replaces a method, so that a later call returns the promise of the first one: its owner and the adapter share it. */
export function shareCall (client: object, name: string): void {
  wrapMethod(client, name, method => {
    let first: unknown
    return (...args) => (first ??= method(...args))
  })
}

/** A method of a client, bound to the client. */
export type Method = (...args: any[]) => any // any: the arguments and the result are only passed on

/** Replaces a method of a client, if the client has it. */
export function wrapMethod (client: object, name: string, wrap: (method: Method) => Method): void {
  const method = property(client, name)
  if (typeof method === 'function') Object.assign(client, { [name]: wrap(method.bind(client) as Method) })
}

/** Creates the error that rejects the work which `force` ends. */
export function forcedError (what: string): Error {
  return new Error(`${what} was closed by force: it did not finish in time`)
}

/** Ignores an error that is expected while a client closes. */
export function ignoreError (): void {}
