/**
 * The app's own onClose hooks. Each runs in the place where stock Fastify would run it, but with a deadline, and isolated:
 * avvio lets a synchronous throw become an uncaught exception after which nothing closes any more, waits for ever for one
 * that never settles, and keeps only the last of several rejections.
 */
import type { FastifyInstance } from 'fastify'
import type { HookResult } from '../../types/index'
import { now, within } from '../util/time'
import { ShutdownTimeoutError, toError } from '../errors'
import type { Teardown } from './teardown'

type OnClose = (this: FastifyInstance, instance: FastifyInstance, done?: (error?: Error) => void) => unknown

export interface HooksOptions {
  /** Resolves when the server is drained: no hook runs before. */
  readonly drained: () => Promise<Teardown>
  /** What a hook may take, in milliseconds. */
  readonly timeout: () => number
  readonly onResult: (result: HookResult) => void
}

export interface Hooks {
  /** Instances that have added an onClose hook, the place to look for what else they brought. */
  readonly instances: ReadonlySet<FastifyInstance>
  /** The hook that is running now. */
  inside(): string[]
  /** Run `place` where stock Fastify would run a hook that is added now. */
  mark(app: FastifyInstance, place: (teardown: Teardown) => void): void
}

/** Their hooks only open a gate here: what they close is closed as a resource. */
const adopting = ['@fastify/postgres', '@fastify/redis']

/** Takes over `addHook('onClose')` of the root, which every child inherits. */
export function takeOverHooks (root: FastifyInstance, { drained, timeout, onResult }: HooksOptions): Hooks {
  const instances = new Set<FastifyInstance>([root])
  const running = new Set<string>()
  /** Each instance's chain of names when it last added a hook. */
  const chains = new WeakMap<FastifyInstance, string>()
  const original = root.addHook as (this: FastifyInstance, name: string, hook: unknown) => FastifyInstance

  root.addHook = function addHook (this: FastifyInstance, name: string, hook: unknown): FastifyInstance {
    const onClose = name === 'onClose' ? asOnClose(hook) : null
    // What is no hook gets Fastify's own error.
    if (onClose === null) return original.call(this, name, hook)
    instances.add(this)
    const plugin = nameOf(this)
    // These plugins add one hook each. What comes next under their name is their registrar's, see `nameOf`.
    const opensGate = adopting.includes(plugin) && chains.get(this) !== this.pluginName
    chains.set(this, this.pluginName)
    return original.call(this, name, async (instance: FastifyInstance) => {
      const teardown = await drained()
      // Strangers close at the same time; whoever else comes later in the line may rely on what came before it.
      if (!opensGate) await teardown.quiet()
      await run(plugin, onClose, instance, teardown.startedAt)
    })
  } as typeof root.addHook

  return {
    instances,
    inside: () => [...running],
    mark (app, place) {
      original.call(app, 'onClose', async () => { place(await drained()) })
    }
  }

  async function run (name: string, hook: OnClose, instance: FastifyInstance, began: number): Promise<void> {
    const startedAt = now()
    const time = timeout()
    running.add(name)
    const settled = await within(time, () => call(hook, instance))
    running.delete(name)
    onResult(Object.freeze({
      name,
      outcome: settled.status === 'fulfilled' ? 'closed' : settled.status === 'rejected' ? 'failed' : 'abandoned',
      startedMs: startedAt - began,
      durationMs: now() - startedAt,
      error: settled.status === 'fulfilled'
        ? null
        : settled.status === 'rejected' ? toError(settled.reason) : new ShutdownTimeoutError(`The onClose hook of '${name}'`, Math.round(time))
    }))
  }
}

function asOnClose (hook: unknown): OnClose | null {
  if (typeof hook === 'function') {
    // Fastify refuses these with an error of its own.
    return hook.constructor.name === 'AsyncFunction' && hook.length === 3 ? null : hook as OnClose
  }
  if (typeof hook !== 'object' || hook === null) return null
  const disposable = hook as Partial<AsyncDisposable & Disposable>
  if (typeof disposable[Symbol.asyncDispose] === 'function') return async () => { await disposable[Symbol.asyncDispose]!() }
  if (typeof disposable[Symbol.dispose] === 'function') return () => disposable[Symbol.dispose]!()
  return null
}

/** As avvio calls it: with a callback where two parameters are declared, else for its promise. */
function call (hook: OnClose, instance: FastifyInstance): unknown {
  if (hook.length < 2) return hook.call(instance, instance)
  return new Promise<void>((resolve, reject) => {
    hook.call(instance, instance, error => error == null ? resolve() : reject(error))
  })
}

/**
 * The last plugin in Fastify's chain of names. A hint only: after `await register(inner)` the outer plugin's next hook still
 * carries the inner one's name.
 */
function nameOf (instance: FastifyInstance): string {
  const name = instance.pluginName.split(' -> ').at(-1) ?? ''
  return name.split('\n')[0]!.slice(0, 80)
}
