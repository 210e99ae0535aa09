/**
 * Runs each preClose and onClose hook of the app when Fastify would run it, but with a timeout and a name. A hook that
 * fails does not affect the others. Without this, avvio turns a synchronous throw into an uncaught exception, and no
 * later hook runs. avvio waits without limit for a hook that never settles, and reports only the last of several
 * rejections. Fastify ignores the errors of preClose hooks.
 */
import type { FastifyInstance } from 'fastify'
import type { HookResult } from '../../types/index'
import { toError } from '../errors'
import { isAsyncFunction } from '../util/asynchronous'
import { withResultJson } from '../util/error-json'
import { loadingPlugins, registeredPlugins } from '../util/plugin-tree'
import { replaceMethod } from '../util/replaced-methods'
import { errorOf, now, within } from '../util/time'
import type { PluginNames } from './registry'
import { disposeOf } from './resource'
import type { Teardown } from './teardown'

/** A hook with the instance as its first argument: preClose hooks are wrapped into one. */
type OnClose = (this: FastifyInstance, instance: FastifyInstance, done?: (error?: Error) => void) => unknown
type HookName = HookResult['hook']

/** Options of `interceptCloseHooks`. */
export interface CloseHooksOptions {
  /** Resolves when the server is drained. No hook runs before. */
  readonly drained: () => Promise<Teardown>
  /** Runs after the last hook. */
  readonly finish: () => Promise<void>
  /** Returns the longest time of the next hook, in milliseconds. */
  readonly timeout: () => number
  /** Runs a part of the close, in which `app.close()` resolves at once. */
  readonly runInside: <T>(part: () => T) => T
  /** Called with the result of each hook. */
  readonly onResult: (result: HookResult) => void
}

/** The preClose and onClose hooks of the app. */
export interface CloseHooks {
  /** The instances that have added an onClose hook. Their decorators may hold a client to adopt. */
  readonly instances: ReadonlySet<FastifyInstance>
  /** Returns the plugins that are registered now, by name. A resource may depend on them. */
  registered(): PluginNames
  /** Returns the running hooks, by name. */
  pending(): string[]
  /** Gives the root its own `addHook` back. */
  restore(): void
  /** Adds a step, which runs when Fastify would run an onClose hook that is added now. It has no result. */
  addStep(step: (teardown: Teardown) => void): void
}

/** Plugins whose clients are adopted. Their own hooks only allow the client's resource to close. */
const pluginsWithAdoptedClients = ['@fastify/postgres', '@fastify/redis']

/**
 * Replaces `addHook` of the root, which every child instance inherits, to wrap each preClose and onClose hook.
 *
 * @param wrapHook replaces another hook of the app, by the name of the plugin that adds it
 */
export function interceptCloseHooks (
  root: FastifyInstance,
  wrapHook: (name: string, hook: unknown, plugin: string) => unknown,
  { drained, finish, timeout, runInside, onResult }: CloseHooksOptions
): CloseHooks {
  const instances = new Set<FastifyInstance>([root])
  /** The plugins that have added an onClose hook, and the plugins that have registered these. */
  const plugins = new Set<string>()
  const running = new Set<string>()
  const original = root.addHook as (this: FastifyInstance, name: string, hook: unknown) => FastifyInstance

  // The first hook of all, so that it runs last.
  root.addHook('onClose', finish)
  const restore = replaceMethod(root, 'addHook', () => function addHook (
    this: FastifyInstance, name: string, hook: unknown
  ): FastifyInstance {
    if (name === 'preClose') return addPreClose(this, hook)
    const onClose = name === 'onClose' ? toOnClose(hook) : null
    // If it is not a hook, Fastify throws its own error.
    if (onClose === null) return original.call(this, name, wrapHook(name, hook, nameOf(this, root)))
    const owners = ownersOf(this, root)
    const plugin = owners.at(-1)!
    instances.add(this)
    for (const owner of owners) plugins.add(owner)
    const closesAdoptedClient = pluginsWithAdoptedClients.includes(plugin)
    return original.call(this, name, async (instance: FastifyInstance) => {
      const teardown = await drained()
      // Adopted clients that do not depend on each other close in parallel. Any other hook may use what closes after
      // it.
      if (!closesAdoptedClient) await teardown.noneClosing()
      for (const owner of owners) await runInside(() => teardown.closeDependantsOf(owner))
      // When these dependants settle, resources that were allowed to close earlier may begin to close.
      if (!closesAdoptedClient) await teardown.noneClosing()
      await run('onClose', plugin, onClose, instance, teardown.beganAt)
    })
  } as typeof root.addHook)

  return {
    instances,
    registered () {
      const names = new Set([...plugins, ...registeredPlugins(root)])
      return { has: name => names.has(name) || root.hasPlugin(name), known: () => names }
    },
    restore,
    pending: () => [...running],
    addStep (step) {
      original.call(root, 'onClose', async () => {
        const teardown = await drained()
        runInside(() => step(teardown))
      })
    }
  }

  function addPreClose (app: FastifyInstance, hook: unknown): FastifyInstance {
    const preClose = toPreClose(hook)
    if (preClose === null) return original.call(app, 'preClose', hook)
    const plugin = ownersOf(app, root).at(-1)!
    return original.call(app, 'preClose', async () => {
      const teardown = await drained()
      await run('preClose', plugin, preClose, app, teardown.beganAt)
    })
  }

  async function run (
    hookName: HookName, name: string, hook: OnClose, instance: FastifyInstance, beganAt: number
  ): Promise<void> {
    const startedAt = now()
    const time = timeout()
    const title = `${hookName} hook of ${name}`
    running.add(title)
    const settled = await within(time, () => runInside(() => call(hook, instance)))
    running.delete(title)
    const outcome = outcomes[settled.status]
    const error = settled.status === 'fulfilled'
      ? null
      : toError(errorOf(settled, `The ${hookName} hook of '${name}'`, time))
    const [startedMs, durationMs] = [startedAt - beganAt, now() - startedAt]
    onResult(Object.freeze(withResultJson({ hook: hookName, name, outcome, startedMs, durationMs, error })))
  }
}

/** The outcome of a hook, by the way in which it settled. */
const outcomes = { fulfilled: 'closed', rejected: 'failed', late: 'abandoned' } as const

function toOnClose (hook: unknown): OnClose | null {
  if (typeof hook === 'function') {
    // Fastify throws for an async function with three parameters.
    return isAsyncFunction(hook) && hook.length === 3 ? null : hook as OnClose
  }
  return disposeOf(hook) ?? null
}

/** Turns a preClose hook into the form of an onClose hook. Its only argument is the callback. */
function toPreClose (hook: unknown): OnClose | null {
  if (typeof hook !== 'function') return null
  const { length } = hook
  // Fastify throws for an async function with a parameter.
  if (isAsyncFunction(hook) && length !== 0) return null
  const preClose = hook as (this: FastifyInstance, done?: (error?: Error) => void) => unknown
  if (length === 0) return function (_instance) { return preClose.call(this) }
  return function (_instance, done) { return preClose.call(this, done) }
}

/** Calls a hook as avvio does: with a callback if it declares two parameters, else for its promise. */
function call (hook: OnClose, instance: FastifyInstance): unknown {
  if (hook.length < 2) return hook.call(instance, instance)
  return new Promise<void>((resolve, reject) => {
    hook.call(instance, instance, error => error == null ? resolve() : reject(error))
  })
}

/**
 * Returns the names of the plugins that are loading when a hook is added, the innermost one last: that plugin adds the
 * hook. Returns `app` if no plugin is loading and the hook is added to the root.
 */
function ownersOf (instance: FastifyInstance, root: FastifyInstance): string[] {
  const loading = loadingPlugins(root)
  if (loading.length > 0) return loading
  return [instance === root ? 'app' : nameOf(instance, root)]
}

/** Last names in the root's chain if the app itself adds a hook. */
const namesOfApp = ['fastify', 'fastify-shutdown']

/**
 * Returns the last name in Fastify's chain of names, or `app` for the root. Unlike `ownersOf`, it is fast, but not
 * always right: after `await register(inner)`, the next hook of the outer plugin has the inner plugin's name. Fastify
 * names a plugin without a name by the first lines of its code.
 */
function nameOf (instance: FastifyInstance, root: FastifyInstance): string {
  const name = instance.pluginName.split(' -> ').at(-1) ?? ''
  if (instance === root && namesOfApp.includes(name)) return 'app'
  return name.split('\n')[0]!.slice(0, 80)
}
