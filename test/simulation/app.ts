/** The part of Fastify that a shutdown uses: its hooks, by the plugin that has added them. */
import { createDeferred, once } from '../../lib/util/deferred'

type Hook = (...args: unknown[]) => unknown

/** A simulated app. */
export interface SimulatedApp {
  addHook (name: string, hook: Hook): unknown
  /** Adds hooks as a plugin does while it loads. */
  load (plugin: string, add: () => void): void
  /** Adds a step of avvio, which runs before every onClose hook that was added earlier. */
  onClose (hook: () => Promise<void>): void
  /** The boot is over. */
  ready (): void
  /** Closes the app when the boot is over. Each call returns the same promise. */
  close (): Promise<void>
}

/** Creates an app without hooks. @param closeServer closes the server, between the hooks */
export function createApp (closeServer: () => Promise<void>): SimulatedApp {
  const hooks: { readonly name: string, readonly hook: Hook }[] = []
  /** Name -> whether it is loading. */
  const plugins = new Map<string, boolean>()
  const steps: (() => Promise<void>)[] = []
  const booted = createDeferred<void>()
  const close = once(async () => {
    await booted.promise
    for (const step of steps) await step()
    await runHooks('preClose').catch(() => {}) // Fastify only logs these.
    let failed: { readonly error: unknown } | null = null
    const fail = (error: unknown): void => { failed ??= { error } }
    await closeServer().catch(fail)
    await runHooks('onClose').catch(fail)
    if (failed !== null) throw (failed as { readonly error: unknown }).error
  })
  const app = {
    pluginName: 'fastify',
    log: {},
    hasPlugin: () => false,
    // As Fastify's: the time of a plugin that is loading is -1.
    printPlugins: () => [...plugins].map(([name, isLoading]) => `└── ${name} ${isLoading ? -1 : 3} ms`).join('\n'),
    addHook (name: string, hook: Hook) {
      hooks.push({ name, hook })
      return app
    },
    load (plugin: string, add: () => void) {
      plugins.set(plugin, true)
      add()
      plugins.set(plugin, false)
    },
    onClose (hook: () => Promise<void>) { steps.push(hook) },
    ready: () => booted.resolve(),
    close: () => close()
  }
  return app

  /** Runs the hooks: preClose in their order, onClose in the opposite one. The first error is thrown last. */
  async function runHooks (name: 'preClose' | 'onClose'): Promise<void> {
    const own = hooks.filter(each => each.name === name)
    let failed: { error: unknown } | null = null
    for (const { hook } of name === 'onClose' ? own.reverse() : own) {
      try {
        await hook(app)
      } catch (error) {
        failed ??= { error }
      }
    }
    if (failed !== null) throw failed.error
  }
}
