/** The resources of the app: their registry, the adopted clients, the app's own onClose hooks, and the teardown. */
import type { FastifyBaseLogger } from 'fastify'
import type { HookResult, Resource, ResourceInput, ResourceResult } from '../../types/index'
import { ShutdownLateError } from '../errors'
import type { Lifecycle } from '../lifecycle/phases'
import type { OnProblem } from '../lifecycle/problems'
import type { Settings } from '../options'
import { reserveOf } from '../times'
import { destinationsOf } from '../util/node-internals'
import { errorOf, now, turn, within, type Deadline } from '../util/time'
import type { CloseHooks, CloseHooksOptions } from './close-hooks'
import { timeoutOf } from './close-resource'
import { adoptClients } from './fastify-plugins'
import { createRegistry } from './registry'
import { adaptClient, type Adapt } from './resource'
import { createTeardown, type Teardown, type TeardownOptions } from './teardown'

/** The resources and onClose hooks of one app. */
export interface Resources {
  /** The results of the app's own onClose hooks so far. */
  readonly hookResults: readonly HookResult[]
  /** Returns the names of the app's own onClose hooks that run now. */
  pendingHooks(): string[]
  /** Pauses each resource once. All pause in parallel, each with its own timeout. */
  pause(): void
  /** Resolves when every pause is over. */
  paused(): Promise<void>
  /**
   * Adds a resource, also while the server shuts down.
   *
   * @returns a function that removes it, and that may be called twice
   * @throws FST_ERR_SHUTDOWN_RESOURCE, FST_ERR_SHUTDOWN_DUPLICATE_RESOURCE, FST_ERR_SHUTDOWN_LATE
   */
  add(name: string, resource: ResourceInput): () => void
  /**
   * Adopts the clients of known plugins, and checks all resources. Called when the app is ready, because all resources
   * are registered then.
   *
   * @throws FST_ERR_SHUTDOWN_RESOURCE, FST_ERR_SHUTDOWN_UNKNOWN_DEPENDENCY, FST_ERR_SHUTDOWN_CIRCULAR_DEPENDENCY
   */
  seal(): void
  /** Begins the teardown. Each resource closes when it is allowed to and its dependants have closed. */
  startTeardown(deadline: Deadline): Teardown
}

/** Adds the steps of the close to the host, and intercepts the hooks of its close. */
export type HostHooks = (options: CloseHooksOptions) => CloseHooks

/** Options of the resources. */
export interface ResourcesOptions {
  readonly settings: Pick<Settings, 'resources' | 'timeouts' | 'track'>
  readonly lifecycle: Lifecycle
  /** The log of the host. */
  readonly log: FastifyBaseLogger
  /** Resolves when the server is drained. No hook runs before. */
  readonly drain: () => Promise<Teardown>
  /** Runs after the last onClose hook. */
  readonly finish: () => Promise<void>
  /** Runs a part of the close, in which `app.close()` resolves at once. */
  readonly runInside: <T>(part: () => T) => T
  readonly onResource: (result: ResourceResult) => void
  readonly onHook: (result: HookResult) => void
  /** Called once with the names of the `last` resources, right before the first of them closes. */
  readonly onLastResources: (names: readonly string[], atMs: number) => void
  readonly onProblem: OnProblem
}

/**
 * Creates the resources from the option `resources`, and intercepts the onClose hooks.
 *
 * @throws FST_ERR_SHUTDOWN_RESOURCE, FST_ERR_SHUTDOWN_CLIENT
 */
export function createResources (
  hostHooks: HostHooks,
  {
    settings, lifecycle, log, drain, finish, runInside, onResource, onHook, onLastResources, onProblem
  }: ResourcesOptions
): Resources {
  const { timeouts } = settings
  // The report is logged later, so the destination of the app's own log is flushed, as the log is, and not closed.
  const adapt: Adapt = client => adaptClient(
    destinationsOf(log).includes(client) ? log : client, { detail: settings.track === 'detail' }
  )
  const registry = createRegistry(settings.resources, adapt)
  const hookResults: HookResult[] = []
  const paused = new Map<string, Resource['pause']>()
  const pausing: Promise<void>[] = []
  /** Each gives an object of the app its own method back. */
  const restores: (() => void)[] = []
  let teardown: Teardown | null = null

  const hooks = hostHooks({
    drained: drain,
    async finish () {
      try {
        await finish()
      } finally {
        // The methods are restored in a later turn, because `app.close()` settles in this turn of the event loop.
        void turn().then(() => restores.forEach(restore => restore()))
      }
    },
    // The resources' time is reserved until all of them have settled.
    timeout: () => {
      const reserve = teardown?.isSettled() === true ? 0 : reserveOf(timeouts)
      return lifecycle.deadline?.limit(timeouts.resources, reserve) ?? timeouts.resources
    },
    runInside,
    onResult (result) {
      hookResults.push(result)
      onHook(result)
    }
  })
  restores.push(hooks.restore)

  return {
    hookResults,
    pendingHooks: () => hooks.pending(),
    pause: pauseAll,
    async paused () { await Promise.all(pausing) },
    add (name, resource) {
      if (lifecycle.phase === 'shutdown') throw new ShutdownLateError(name, lifecycle.phase)
      const remove = registry.add(name, resource, !lifecycle.booted)
      // If the boot never ends, no step among the hooks would close the resource.
      if (teardown !== null) {
        addLate(teardown, name, registry.all.get(name)!)
      } else {
        if (!lifecycle.booted) hooks.addStep(closing => closing.allow(name))
        if (lifecycle.phase !== 'running') pauseAll()
      }
      return remove
    },
    seal () {
      const adopted = adoptClients(hooks.instances, adapt, () => teardown, name => registry.all.has(name))
      for (const { name, resource, restore } of adopted) {
        registry.adopt(name, resource)
        restores.push(restore)
      }
      registry.seal(hooks.registered())
    },
    startTeardown (deadline) {
      const options: TeardownOptions = {
        timeout: timeouts.resources,
        remaining: deadline.remaining,
        beganAt: now() - lifecycle.elapsed(),
        positioned: registry.positioned,
        plugins: registry.plugins,
        onResult: onResource,
        onLastResources
      }
      try {
        if (!lifecycle.booted) registry.dropBrokenDependencies()
        teardown = createTeardown(registry.all, options)
      } catch (error) {
        onProblem('The resources could not be ordered: they close in parallel', error)
        teardown = createTeardown(withoutOrder(registry.all), options)
      }
      return teardown
    }
  }

  /** Closes a resource that is added while the others close. It is a part of the close, so it may close the host. */
  function addLate (closing: Teardown, name: string, resource: Resource): void {
    runInside(() => closing.add(name, resource))
  }

  function pauseAll (): void {
    // The app closes before it was ready, so some names may never be registered.
    if (!lifecycle.booted) registry.dropBrokenDependencies()
    for (const [name, resource] of registry.all) {
      if (resource.pause === undefined || paused.get(name) === resource.pause) continue
      paused.set(name, resource.pause)
      pausing.push(pause(name, resource))
    }
  }

  async function pause (name: string, resource: Resource): Promise<void> {
    const { time: own } = timeoutOf(resource, timeouts.resources)
    const time = lifecycle.deadline?.limit(own, reserveOf(timeouts)) ?? own
    const settled = await within(time, () => runInside(() => resource.pause!()))
    if (settled.status === 'fulfilled') return
    onProblem(`Resource '${name}' did not pause`, errorOf(settled, `The pause of resource '${name}'`, time))
  }
}

/** Returns resources that close in parallel. */
function withoutOrder (resources: Iterable<readonly [string, Resource]>): (readonly [string, Resource])[] {
  return Array.from(resources, ([name, { dependsOn, last, ...rest }]) => [name, rest] as const)
}
