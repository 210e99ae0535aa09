/**
 * Fault injection: makes one method of our own parts throw. A part is the object that a factory in lib/ returns. Each
 * factory is replaced in its module, so that every object that it creates calls `onCall` first.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const lib = join(__dirname, '../../lib')

/** Factories whose objects are for one request or one WebSocket, and not a part of the shutdown. */
const excluded = ['createEntry', 'createEntryOutside', 'createDeferred', 'createResult', 'createLinkedList', 'createConditions']

/** Called before each method of a part, with its name, such as `createTraffic.end`. It may throw. */
export type OnCall = (point: string) => void

const current = new AsyncLocalStorage<OnCall>()

/** Runs `work`. Every part that is created in it calls `onCall`, also later. */
export function sabotage<T> (onCall: OnCall, work: () => T): T {
  return current.run(onCall, work)
}

/** Replaces every factory of lib/. Call it once. */
export function replaceFactories (): void {
  for (const folder of ['lifecycle', 'http', 'http/drains', 'resources', 'process', 'exporters']) {
    for (const file of readdirSync(join(lib, folder)).filter(name => name.endsWith('.ts'))) {
      const path = join(lib, folder, file)
      const names = Array.from(readFileSync(path, 'utf8').matchAll(/^export (?:async )?function ((?:create|start|endSessions|intercept|connect|join)\w+)/gm), match => match[1]!)
      if (names.length === 0) continue
      const module = require(path) as Record<string, (...args: unknown[]) => unknown>
      for (const name of names) {
        const factory = module[name]
        if (factory === undefined || excluded.includes(name)) continue
        module[name] = (...args) => {
          const onCall = current.getStore()
          const part = factory(...args)
          return onCall === undefined ? part : watch(part, name, onCall)
        }
      }
    }
  }
}

function watch (part: unknown, name: string, onCall: OnCall): unknown {
  if (typeof part === 'function') {
    return (...args: unknown[]) => {
      onCall(name)
      return (part as (...args: unknown[]) => unknown)(...args)
    }
  }
  if (typeof part !== 'object' || part === null || part instanceof Promise) return part
  return new Proxy(part, {
    get (target, key) {
      const value: unknown = Reflect.get(target, key)
      if (typeof value !== 'function' || typeof key === 'symbol') return value
      return function (this: unknown, ...args: unknown[]) {
        onCall(`${name}.${key}`)
        return Reflect.apply(value, this, args)
      }
    }
  })
}
