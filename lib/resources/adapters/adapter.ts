/**
 * From a client that someone else's driver made to a Resource. No driver is imported here or in any adapter: a client is
 * known by its structure, so that two copies of a driver, or a minified one, are found as well.
 */
import type { Resource } from '../../../types/index'
import { turn, within } from '../../util/time'
import { ShutdownClientError } from '../../errors'

export interface AdapterOptions {
  /** Whether to remember where each borrowed client was taken, at the price of a stack trace for each. @default false */
  readonly detail?: boolean
}

/** One kind of client. `matches` is asked first; `adapt` may then rely on the structure. */
export interface Adapter<Client extends object = object> {
  /** What to call it in an error message, such as `pg Pool`. */
  readonly kind: string
  matches (client: object): boolean
  adapt (client: Client, options?: AdapterOptions): Resource
}

/**
 * A function that finds a client's adapter. The first that matches wins, so the list goes from the most special on.
 * @throws FST_ERR_SHUTDOWN_CLIENT where none matches
 */
export function adapterFinder (adapters: readonly Adapter[]): (client: object, options?: AdapterOptions) => Resource {
  return (client, options) => {
    const adapter = adapters.find(each => each.matches(client))
    if (adapter === undefined) throw new ShutdownClientError(describe(client), adapters.map(each => each.kind).join(', '))
    return adapter.adapt(client, options)
  }
}

// The constructor's name alone often is 'Object' or 'e'.
function describe (client: object): string {
  const prototype: unknown = Object.getPrototypeOf(client)
  const methods = [client, prototype].flatMap(each => typeof each === 'object' && each !== null ? Object.getOwnPropertyNames(each) : [])
    .filter(name => name !== 'constructor' && !name.startsWith('_')).slice(0, 8)
  return `${client.constructor?.name ?? 'no constructor'}, with ${methods.join(', ') || 'no properties'}`
}

/** Whether all of these are methods of the client. */
export function has (client: object, ...methods: readonly string[]): boolean {
  return methods.every(method => typeof field(client, method) === 'function')
}

/** A property of an object of unknown structure. */
export function field (client: object, name: string): unknown {
  return (client as Readonly<Record<string, unknown>>)[name]
}

export interface Ends {
  readonly last?: boolean
  pause?(): unknown
  /** Called at most once, and never after `force`. */
  close(): unknown
  /** Called at most once. */
  force?(): unknown
  detail?(): Readonly<Record<string, unknown>> | undefined
}

/**
 * What all adapters promise. Closed twice is closed once: drivers reject the second time (pg-pool: "Called end on pool
 * more than once"). And once forced, a `close` that still waits settles too, whatever the driver does with its promise.
 */
export function once ({ close, force, pause, detail, last }: Ends): Required<Pick<Resource, 'close'>> & Resource {
  let closing: Promise<void> | undefined
  let forcing: Promise<void> | undefined
  let release = (): void => {}
  const forced = new Promise<void>(resolve => { release = resolve })
  return {
    ...(pause === undefined ? {} : { pause: async () => { await pause() } }),
    ...(detail === undefined ? {} : { detail }),
    ...(last === undefined ? {} : { last }),
    close: () => (closing ??= forcing ?? Promise.race([forced, run(close).catch(cutShort)])),
    ...(force === undefined ? {} : { force: () => (forcing ??= run(force).finally(release)) })
  }

  // Once forced, that the driver's own way was cut short is no news.
  function cutShort (error: unknown): Promise<void> {
    if (forcing === undefined) throw error
    return forced
  }
}

// A synchronous throw of a driver is a rejection.
async function run (work: () => unknown): Promise<void> {
  await work()
}

/**
 * Stand in front of methods that return promises, to know which of them are still out.
 * @returns what waits until none is
 */
export function watch (client: object, ...methods: readonly string[]): () => Promise<void> {
  const out = new Set<Promise<unknown>>()
  for (const name of methods) {
    const method = field(client, name)
    if (typeof method !== 'function') continue
    Object.assign(client, {
      [name]: (...args: unknown[]): unknown => {
        const result: unknown = method.apply(client, args)
        if (result instanceof Promise) {
          const forget = (): void => { out.delete(result) }
          out.add(result)
          result.then(forget, forget)
        }
        return result
      }
    })
  }
  return async () => {
    while (out.size > 0) await Promise.allSettled(out)
  }
}

/** As much of a socket as is needed to see it go. */
export interface Socket {
  readonly destroyed: boolean
  destroy (error?: Error): unknown
  once (event: 'close', listener: () => void): unknown
}

/** How long a server that was told goodbye may take to hang up, in milliseconds. */
const courtesy = 250

/**
 * Wait until each socket is gone, and destroy those whose server does not hang up: drivers count a client as closed when
 * the goodbye is written, while its open socket still keeps the process alive and the session visible on the server.
 */
export async function goodbye (sockets: Iterable<Socket | null | undefined>): Promise<void> {
  const open = [...sockets].filter(socket => socket != null && !socket.destroyed) as Socket[]
  if (open.length === 0) return
  await within(courtesy, () => Promise.all(open.map(closed)))
  for (const socket of open) socket.destroy()
}

/** Destroy each socket now, and give the rejections of what was under way the time to arrive. */
export async function cut (sockets: Iterable<Socket | null | undefined>, error?: Error): Promise<void> {
  const open = [...sockets].filter(socket => socket != null && !socket.destroyed) as Socket[]
  const gone = Promise.all(open.map(closed))
  for (const socket of open) socket.destroy(error)
  await gone
  await turn()
}

function closed (socket: Socket): Promise<void> {
  return new Promise(resolve => { socket.once('close', resolve) })
}

/** The reason of whatever is rejected by `force`. */
export function forcedError (what: string): Error {
  return new Error(`${what} was closed by force: it did not finish in time`)
}

/** A listener for errors that are nobody's any more. */
export function ignore (): void {}
