/**
 * Closes resources by dependency: each starts the moment its gate is open and its last dependant has closed. One that
 * fails or never settles costs its own time and nothing else: "a pool left open because a cache refused to close helps
 * nobody".
 *
 * A gate is the place where stock Fastify would have closed the resource; without a server all gates are open at once.
 */
import { setMaxListeners } from 'node:events'
import type { Outcome, Resource, ResourceInput, ResourceResult, TeardownResult } from '../../types/index'
import { after, now, within } from '../util/time'
import { ShutdownResourceError, ShutdownTimeoutError, toError } from '../errors'
import { link, nobody, type Place } from './dependency-graph'
import { defaultTimeouts, milliseconds } from '../options'
import { toResources, type Adapt } from './resource'

export interface TeardownOptions {
  /** Longest time of a resource that names none, in milliseconds. */
  readonly timeout: number
  /** What is left of the whole budget, in milliseconds. @default Infinity */
  readonly remaining?: () => number
  /** Resources with a gate of their own. The others close right before what they depend on, or last. @default none */
  readonly placed?: ReadonlySet<string>
  readonly onResult?: (result: ResourceResult) => void
}

export interface Teardown {
  /**
   * Whatever would have run before this resource has run: it may close once its dependants have. Those of them without a
   * gate of their own may close now; those that only wait for it because it is `last` may not.
   */
  open(name: string): void
  openAll(): void
  /** One more, closed at once. */
  add(name: string, resource: Resource): void
  /** Resolves when none that has started is still closing. */
  quiet(): Promise<void>
  /** Resolves when all have closed, one way or another. Never rejects. */
  finished(): Promise<readonly ResourceResult[]>
  /** Names of those that are closing now. */
  inside(): string[]
  /** When it began, by the clock of `deadline.ts`. */
  readonly startedAt: number
  /** The chain that set the duration, the first to close first. */
  criticalPath(): string[]
}

interface Entry extends Place<Entry> {
  gate: 'shut' | 'open'
  /** By the clock of `deadline.ts`, -1 before. */
  startedAt: number
  /** The clock that runs for it while it closes. */
  clock: Clock | null
  result: ResourceResult | null
}

/** One timer and one signal for all that start in the same millisecond with the same time: 10 000 of each are slow. */
interface Clock {
  readonly millisecond: number
  readonly signal: AbortSignal
  /** How many it runs for. */
  members: number
  cancel(): void
}

/** `force` may take a tenth of its resource's time, at most this. */
const longestForce = 1_000

const none: readonly string[] = Object.freeze([])

/**
 * @throws FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY, FST_ERR_SHUTDOWN_CIRCULAR_DEPENDENCY
 */
export function createTeardown (resources: Iterable<readonly [name: string, resource: Resource]>, options: TeardownOptions): Teardown {
  const { timeout, remaining = () => Infinity, placed = new Set<string>(), onResult = () => {} } = options
  const began = now()
  /** In the order in which they came; two that came at different times may share a name. */
  const entries: Entry[] = []
  const planned = new Map<string, Entry>()
  const clocks = new Map<number, Clock>()
  /** Those whose turn comes when the one that starts now has started. */
  const starting: Entry[] = []
  let isStarting = false
  let waiters: { readonly done: () => boolean, readonly resolve: () => void }[] = []
  let left = 0
  let closing = 0
  for (const [name, resource] of resources) planned.set(name, enlist(name, resource))
  link(planned)

  return {
    open (name) {
      const first = planned.get(name)
      if (first === undefined) return // taken away again since its place was marked
      const opening = new Set([first])
      for (const entry of opening) {
        openGate(entry)
        for (const above of entry.above) if (!placed.has(above.name) && uses(above, entry)) opening.add(above)
      }
    },
    openAll () { entries.forEach(openGate) },
    add (name, resource) { openGate(enlist(name, resource)) },
    quiet: () => until(() => closing === 0),
    finished,
    inside: () => entries.filter(isClosing).map(({ name }) => name),
    startedAt: began,
    criticalPath
  }

  function enlist (name: string, resource: Resource): Entry {
    const entry: Entry = { name, resource, above: nobody, below: nobody, waiting: 0, gate: 'shut', startedAt: -1, clock: null, result: null }
    entries.push(entry)
    left++
    return entry
  }

  async function finished (): Promise<readonly ResourceResult[]> {
    await until(() => left === 0)
    // One more may have been added before this was told that none is left.
    return left > 0 ? finished() : entries.map(entry => entry.result!)
  }

  function openGate (entry: Entry): void {
    if (entry.gate === 'open') return
    entry.gate = 'open'
    if (entry.waiting === 0) startInTurn(entry)
  }

  /** One by one and not nested: a chain of 10 000 that close synchronously must not run out of stack. */
  function startInTurn (entry: Entry): void {
    if (isStarting) {
      starting.push(entry)
      return
    }
    isStarting = true
    start(entry)
    for (const next of starting) start(next)
    if (starting.length > 0) starting.length = 0
    isStarting = false
  }

  function start (entry: Entry): void {
    const { resource } = entry
    entry.startedAt = now()
    closing++
    if (resource.close === undefined) return settle(entry, 'closed', null)
    const clock = entry.clock = clockOf(entry)
    clock.members++
    let closed: PromiseLike<void> | null
    try {
      const answer = resource.close(clock.signal)
      closed = typeof answer?.then === 'function' ? answer : null
    } catch (thrown) {
      return settleInTime(entry, clock, 'failed', thrown)
    }
    if (closed === null) return settleInTime(entry, clock, 'closed', null)
    // A promise is taken as it is; what only looks like one may throw, or answer in the middle of this.
    Promise.resolve(closed).then(() => settleInTime(entry, clock, 'closed', null), thrown => settleInTime(entry, clock, 'failed', thrown))
  }

  function settleInTime (entry: Entry, clock: Clock, outcome: 'closed' | 'failed', thrown: unknown): void {
    if (entry.clock === null) return // Too late: it has been forced or abandoned meanwhile.
    entry.clock = null
    clock.members--
    settle(entry, outcome, thrown)
    if (clock.members === 0 && clocks.get(timeOf(entry)) !== clock) clock.cancel()
  }

  function timeOf (entry: Entry): number {
    return entry.resource.timeout ?? timeout
  }

  function clockOf (entry: Entry): Clock {
    const time = timeOf(entry)
    const millisecond = Math.floor(entry.startedAt)
    const current = clocks.get(time)
    if (current?.millisecond === millisecond) return current
    if (current?.members === 0) current.cancel()
    const abort = new AbortController()
    setMaxListeners(0, abort.signal) // Each of its members may listen, and there may be thousands.
    // What is left of the budget has to suffice for `force` too.
    const granted = Math.max(0, Math.min(time, remaining() - forceTime(time)))
    const cancel = after(granted, () => {
      if (clocks.get(time) === clock) clocks.delete(time)
      const late = entries.filter(each => each.clock === clock)
      for (const each of late) each.clock = null
      abort.abort(new ShutdownTimeoutError(late.map(each => `Resource '${each.name}'`).join(', '), Math.round(granted)))
      for (const each of late) void force(each, granted)
    })
    const clock: Clock = { millisecond, signal: abort.signal, members: 0, cancel }
    clocks.set(time, clock)
    return clock
  }

  async function force (entry: Entry, granted: number): Promise<void> {
    const { resource } = entry
    const late = new ShutdownTimeoutError(`Resource '${entry.name}'`, Math.round(granted))
    if (resource.force === undefined) return settle(entry, 'abandoned', late)
    const forced = await within(Math.min(forceTime(timeOf(entry)), Math.max(1, remaining())), () => resource.force!())
    if (forced.status === 'fulfilled') return settle(entry, 'forced', late)
    settle(entry, 'abandoned', forced.status === 'rejected' ? forced.reason : late)
  }

  function settle (entry: Entry, outcome: ResourceResult['outcome'], thrown: unknown): void {
    closing--
    left--
    const ended = now()
    const detail = detailOf(entry.resource)
    const result: ResourceResult = {
      name: entry.name,
      outcome,
      startedMs: entry.startedAt - began,
      durationMs: ended - entry.startedAt,
      waitedFor: namesOf(entry.above),
      error: outcome === 'closed' ? null : toError(thrown)
    }
    entry.result = Object.freeze(detail === undefined ? result : { ...result, detail })
    onResult(entry.result)
    for (const below of entry.below) {
      below.waiting--
      if (below.waiting === 0 && below.gate === 'open') startInTurn(below)
    }
    if (left === 0) {
      for (const clock of clocks.values()) clock.cancel()
      clocks.clear() // One that is added in this very millisecond must not join a clock that stands still.
    }
    // Whatever is waited for, nothing is closing then.
    if (closing === 0 && waiters.length > 0) release()
  }

  function until (done: () => boolean): Promise<void> {
    return new Promise(resolve => {
      if (done()) resolve()
      else waiters.push({ done, resolve })
    })
  }

  function release (): void {
    const ready = waiters.filter(waiter => waiter.done())
    if (ready.length === 0) return
    waiters = waiters.filter(waiter => !ready.includes(waiter))
    for (const waiter of ready) waiter.resolve()
  }

  /** From the one that ended last, back through the dependant that each had to wait for longest. */
  function criticalPath (): string[] {
    const path: string[] = []
    for (let entry = lastOf(entries); entry !== undefined; entry = lastOf(entry.above)) path.push(entry.name)
    return path.reverse()
  }
}

/**
 * The same teardown without a server, for workers and scripts. Resolves when all is closed, one way or another; throws
 * only for a graph that cannot be. It begins at once, so that `pause` has no time of its own and is not called.
 *
 * @param options.timeout longest time of a resource that names none, in milliseconds, default 10 000
 * @throws FST_ERR_SHUTDOWN_OPTION, FST_ERR_SHUTDOWN_RESOURCE, FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY, FST_ERR_SHUTDOWN_CIRCULAR_DEPENDENCY
 * @example
 * await teardown({
 *   postgres: { close: () => pool.end() },
 *   worker: { dependsOn: ['postgres'], close: () => worker.close() }
 * }, { timeout: 5_000 })
 */
export async function teardown (resources: Readonly<Record<string, ResourceInput>>, options: { readonly timeout?: number } = {}, adapt?: Adapt): Promise<TeardownResult> {
  const { timeout = defaultTimeouts.resources } = options
  const checked = toResources(resources, adapt)
  const unclosable = checked.find(([, { close }]) => close === undefined)
  if (unclosable !== undefined) throw new ShutdownResourceError(`Resource '${unclosable[0]}' has no 'close'`)
  const run = createTeardown(checked, { timeout: milliseconds('timeout', timeout, 1) })
  run.openAll()
  const results = await run.finished()
  return Object.freeze({
    outcome: outcomeOf(results), durationMs: now() - run.startedAt, resources: Object.freeze(results), criticalPath: Object.freeze(run.criticalPath())
  })
}

/** The worst of them: something failed or was abandoned; something was forced; all is clean. */
export function outcomeOf (results: readonly { readonly outcome: string }[]): Outcome {
  if (results.some(({ outcome }) => outcome === 'failed' || outcome === 'abandoned')) return 'failed'
  return results.some(({ outcome }) => outcome === 'forced') ? 'forced' : 'clean'
}

/** Whether it says so itself; all depend on what is `last`. */
function uses (entry: Entry, other: Entry): boolean {
  return entry.resource.dependsOn?.includes(other.name) === true
}

function isClosing ({ startedAt, result }: Entry): boolean {
  return startedAt >= 0 && result === null
}

function namesOf (entries: readonly Entry[]): readonly string[] {
  return entries.length === 0 ? none : Object.freeze(entries.map(({ name }) => name))
}

function forceTime (time: number): number {
  return Math.min(longestForce, time / 10)
}

function detailOf (resource: Resource): Readonly<Record<string, unknown>> | undefined {
  if (resource.detail === undefined) return undefined
  try {
    const detail = resource.detail()
    return detail === undefined ? undefined : Object.freeze({ ...detail })
  } catch {
    return undefined // A report without its footnote is still a report.
  }
}

function lastOf (entries: Iterable<Entry>): Entry | undefined {
  let last: Entry | undefined
  for (const entry of entries) {
    if (entry.result !== null && (last === undefined || endOf(entry) > endOf(last))) last = entry
  }
  return last
}

function endOf ({ result }: Entry): number {
  return result!.startedMs + result!.durationMs
}
