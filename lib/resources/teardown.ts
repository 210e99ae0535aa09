/**
 * Closes resources in the order of their dependencies: a resource begins to close when it is allowed to and its last
 * dependant has closed. A resource that fails or never settles only uses its own timeout, and the others still close.
 *
 * With a server, a resource is allowed to close when Fastify would run its onClose hook. Without a server, all are
 * allowed at once.
 */
import type { HookResult, Resource, ResourceInput, ResourceResult, TeardownResult } from '../../types/index'
import { ShutdownResourceError } from '../errors'
import { checkNames, milliseconds } from '../checks'
import { defaultTimeouts } from '../times'
import { createConditions } from '../util/conditions'
import { now } from '../util/time'
import { worstOutcome } from '../util/worst-outcome'
import { createCloser } from './close-resource'
import { linkGraph, noNeighbours } from './dependency-graph'
import { adaptClient, toResources } from './resource'
import { createResult, criticalPathOf, type Reported } from './resource-result'

/** Options of `createTeardown`. */
export interface TeardownOptions {
  /** Longest time of a resource that has no `timeout`, in milliseconds. */
  readonly timeout: number
  /** Returns the remaining time of the whole shutdown, in milliseconds. @default Infinity */
  readonly remaining?: () => number
  /** Names of plugins that a resource depends on. They have nothing to close, and no result. @default none */
  readonly plugins?: ReadonlySet<string>
  /** Resources with a position of their own among the onClose hooks. @default none */
  readonly positioned?: ReadonlySet<string>
  /** The time from which `startedMs` counts, as `now()` returns it. @default now */
  readonly beganAt?: number
  /** Called with the result of each resource when it has settled. */
  readonly onResult?: (result: ResourceResult) => void
  /** Called once with the names of the `last` resources, right before the first of them closes. */
  readonly onLastResources?: (names: readonly string[], atMs: number) => void
}

/** The teardown: closes all resources. */
export interface Teardown {
  /**
   * Allows a resource to close, and also its dependants without a position of their own, so that they close right
   * before it. A resource that only depends on it because it is `last` is not allowed by this.
   */
  allow(name: string): void
  /**
   * Allows the resources that depend on a plugin to close, also those with a position of their own. If one of them is
   * `last`, all others close before it. Resolves when they have settled.
   */
  closeDependantsOf(plugin: string): Promise<void>
  /** Allows every resource to close. */
  allowAll(): void
  /** Adds a resource and closes it at once. */
  add(name: string, resource: Resource): void
  /** Resolves when none of the resources that have started is still closing. */
  noneClosing(): Promise<void>
  /** Returns whether every resource has settled. */
  isSettled(): boolean
  /** Resolves to all results when every resource has settled. Never rejects. */
  finished(): Promise<readonly ResourceResult[]>
  /** Returns the names of the resources that are closing. */
  pending(): string[]
  /** The time from which `startedMs` counts, as `now()` returns it. */
  readonly beganAt: number
  /** Returns the chain that set the duration, first to close first. Call it when every resource has settled. */
  criticalPath(hooks?: readonly HookResult[]): string[]
}

const none: ReadonlySet<never> = new Set()

interface Entry extends Reported<Entry> {
  /** `held` until it is allowed to close, `allowed` while it waits for its dependants. */
  state: 'held' | 'allowed' | 'closing' | 'settled'
  /** Whether it is one of the `last` resources. A resource that is added late is not. */
  isLast: boolean
}

/**
 * Orders resources and prepares to close them. None closes before it is allowed to.
 *
 * @throws FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY, FST_ERR_SHUTDOWN_CIRCULAR_DEPENDENCY
 */
export function createTeardown (
  resources: Iterable<readonly [name: string, resource: Resource]>, options: TeardownOptions
): Teardown {
  const { timeout, remaining = () => Infinity, beganAt = now(), onResult = () => {} } = options
  const { onLastResources = () => {} } = options
  const { positioned = new Set<string>(), plugins = new Set<string>() } = options
  /** In the order in which they were added. A resource that is added late may have the same name as another. */
  const entries: Entry[] = []
  const byName = new Map<string, Entry>()
  const closer = createCloser<Entry>({ timeout, remaining, all: entries, onSettled })
  const conditions = createConditions()
  /** Entries that start after the entry that is starting now. */
  const startQueue: Entry[] = []
  let isStarting = false
  let lastHaveBegun = false
  let unsettled = 0
  let closing = 0
  for (const [name, resource] of resources) byName.set(name, addEntry(name, resource))
  const { lasts, earlier } = linkGraph(byName)
  for (const entry of lasts) {
    entry.earlier = earlier
    entry.isLast = true
  }
  let openEarlier = earlier.size

  return {
    allow (name) { allow(name, positioned) },
    async closeDependantsOf (plugin) {
      // A resource that is added late may be the first one that uses the plugin. It has no place in the order.
      if (!plugins.has(plugin) || !byName.has(plugin)) return
      const allowed = allow(plugin, none)
      // A `last` resource waits for all other resources. If it uses the plugin, they must not wait for its hooks.
      if (lasts.some(entry => allowed.has(entry))) earlier.forEach(allowEntry)
      await conditions.until(() => byName.get(plugin)!.state === 'settled')
    },
    allowAll () { entries.forEach(allowEntry) },
    add (name, resource) { allowEntry(addEntry(name, resource)) },
    isSettled: () => unsettled === 0,
    noneClosing,
    finished,
    pending: () => entries.filter(({ state }) => state === 'closing').map(({ name }) => name),
    beganAt,
    criticalPath: hooks => criticalPathOf(results(), hooks)
  }

  /** Allows a resource to close, and also its dependants that are not in `held`. @returns all of these */
  function allow (name: string, held: ReadonlySet<string>): ReadonlySet<Entry> {
    const entry = byName.get(name)
    if (entry === undefined) return none // It was removed after its position was added.
    const allowed = new Set([entry])
    for (const each of allowed) {
      allowEntry(each)
      for (const dependant of each.dependants) {
        if (!held.has(dependant.name)) allowed.add(dependant)
      }
    }
    return allowed
  }

  function results (): ResourceResult[] {
    return entries.filter(({ name }) => !plugins.has(name)).map(({ result }) => result!)
  }

  function addEntry (name: string, resource: Resource): Entry {
    const entry: Entry = {
      name,
      resource,
      dependants: noNeighbours,
      dependencies: noNeighbours,
      earlier: none,
      openDependants: 0,
      state: 'held',
      isLast: false,
      startedAt: -1,
      sharedTimeout: null,
      result: null
    }
    entries.push(entry)
    unsettled++
    return entry
  }

  async function noneClosing (): Promise<void> {
    await conditions.until(() => closing === 0)
    // The resource that has just settled may have started the next one.
    if (closing > 0) await noneClosing()
  }

  async function finished (): Promise<readonly ResourceResult[]> {
    await conditions.until(() => unsettled === 0)
    // A resource may have been added between the check and this continuation.
    return unsettled > 0 ? finished() : results()
  }

  function allowEntry (entry: Entry): void {
    if (entry.state !== 'held') return
    entry.state = 'allowed'
    if (entry.openDependants === 0) startInTurn(entry)
  }

  /**
   * Starts entries one after the other. Nested calls would overflow the stack in a chain of 10 000 synchronous `close`.
   */
  function startInTurn (entry: Entry): void {
    if (isStarting) {
      startQueue.push(entry)
      return
    }
    isStarting = true
    start(entry)
    for (const next of startQueue) start(next)
    if (startQueue.length > 0) startQueue.length = 0
    isStarting = false
  }

  function start (entry: Entry): void {
    if (!lastHaveBegun && entry.isLast) {
      lastHaveBegun = true
      onLastResources(lasts.map(({ name }) => name), now() - beganAt)
    }
    entry.state = 'closing'
    closing++
    closer.close(entry)
  }

  function onSettled (entry: Entry, outcome: ResourceResult['outcome'], error: unknown): void {
    closing--
    unsettled--
    entry.state = 'settled'
    entry.result = createResult(entry, outcome, error, beganAt, now())
    if (!plugins.has(entry.name)) onResult(entry.result)
    entry.dependencies.forEach(onDependantSettled)
    if (earlier.has(entry) && --openEarlier === 0) lasts.forEach(onDependantSettled)
    if (unsettled === 0) closer.cancelTimers()
    // Without plugins, no condition can become true while a resource is closing.
    if (closing === 0 || plugins.size > 0) conditions.check()
  }

  function onDependantSettled (entry: Entry): void {
    entry.openDependants--
    if (entry.openDependants === 0 && entry.state === 'allowed') startInTurn(entry)
  }
}

/**
 * Closes resources by dependency without a server, for workers and scripts. Resolves when every resource has settled,
 * and rejects only if the resources cannot be ordered. It closes at once, so it does not call `pause`.
 *
 * @param resources name -> resource, disposable or `{ client }`
 * @param options.timeout longest time of a resource that has no `timeout`, in milliseconds. @default 10_000
 * @returns the result of each resource, frozen
 * @throws FST_ERR_SHUTDOWN_OPTION, FST_ERR_SHUTDOWN_RESOURCE, FST_ERR_SHUTDOWN_CLIENT,
 *   FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY, FST_ERR_SHUTDOWN_CIRCULAR_DEPENDENCY
 * @example
 * const { outcome } = await teardown({
 *   postgres: { client: pool },
 *   worker: { dependsOn: ['postgres'], close: () => worker.close() }
 * }, { timeout: 5_000 })
 * process.exitCode = outcome === 'clean' ? 0 : 1
 */
export async function teardown (
  resources: Readonly<Record<string, ResourceInput>>, options: { readonly timeout?: number } = {}
): Promise<TeardownResult> {
  checkNames('options', options, ['timeout'], 'an option')
  const { timeout = defaultTimeouts.resources } = options
  const checked = toResources(resources, adaptClient)
  const unclosable = checked.find(([, { close }]) => close === undefined)
  if (unclosable !== undefined) throw new ShutdownResourceError(`Resource '${unclosable[0]}' has no 'close'`)
  const run = createTeardown(checked, { timeout: milliseconds('timeout', timeout, 1) })
  run.allowAll()
  const results = await run.finished()
  return Object.freeze({
    outcome: worstOutcome(results.map(({ outcome }) => outcome)),
    durationMs: now() - run.beganAt,
    resources: Object.freeze(results),
    criticalPath: Object.freeze(run.criticalPath())
  })
}
