/**
 * Turns an input of the user into a resource. The input is a resource, a disposable, or `{ client }` with a known
 * client.
 */
import type { Resource, ResourceInput } from '../../types/index'
import { ShutdownResourceError, received } from '../errors'
import { suggest } from '../util/did-you-mean'
import { longestTimer } from '../util/time'
import type { AdapterOptions } from './adapters/adapter'

/** Turns a client into a resource. */
export type Adapt = (client: object) => Resource

/**
 * Turns a known client into a resource. The adapters are loaded at the first call, because many services have no such
 * client.
 *
 * @throws FST_ERR_SHUTDOWN_CLIENT for an unknown client, with the list of known kinds
 */
export function adaptClient (client: object, options?: AdapterOptions): Resource {
  const { adapterFor } = require('./adapters/index') as typeof import('./adapters/index')
  return adapterFor(client, options)
}

interface Rule {
  readonly expected: string
  holds (value: unknown): boolean
}

const aFunction: Rule = { expected: 'a function', holds: value => typeof value === 'function' }

const rules: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  [
    'dependsOn',
    {
      expected: 'a list of names',
      holds: value => Array.isArray(value) && value.every(name => typeof name === 'string')
    }
  ],
  ['pause', aFunction],
  ['close', aFunction],
  ['force', aFunction],
  [
    'timeout',
    {
      expected: 'a positive number of milliseconds',
      holds: value => typeof value === 'number' && value > 0 && value <= longestTimer
    }
  ],
  ['last', { expected: 'a boolean', holds: value => typeof value === 'boolean' }],
  ['detail', aFunction],
  [
    'client',
    {
      // The clients of knex and postgres.js are functions.
      expected: 'a client',
      holds: value => (typeof value === 'object' && value !== null) || typeof value === 'function'
    }
  ]
])

const fields = [...rules.keys()]

/** Names that would change the prototype if the user turned a report into an object. */
const reserved = ['__proto__', 'constructor', 'prototype']

/**
 * Checks the name of a resource.
 *
 * @returns the same name
 * @throws FST_ERR_SHUTDOWN_RESOURCE
 */
export function checkResourceName (name: string): string {
  if (typeof name !== 'string' || name === '' || reserved.includes(name)) {
    throw new ShutdownResourceError(
      "Expected a resource's name to be a non-empty string other than '__proto__', 'constructor' and 'prototype', " +
      `got ${received(name)}`
    )
  }
  return name
}

/**
 * Turns an object of name -> input into pairs of name and resource.
 *
 * @throws FST_ERR_SHUTDOWN_RESOURCE, FST_ERR_SHUTDOWN_CLIENT
 */
export function toResources (
  inputs: Readonly<Record<string, ResourceInput>>, adapt: Adapt
): [name: string, resource: Resource][] {
  if (typeof inputs !== 'object' || inputs === null || Array.isArray(inputs)) {
    throw new ShutdownResourceError(
      `Expected the resources to be an object of name -> resource, got ${received(inputs)}`
    )
  }
  return Object.keys(inputs).map(name => [checkResourceName(name), toResource(name, inputs[name]!, adapt)])
}

/**
 * Turns one input into a resource.
 *
 * @throws FST_ERR_SHUTDOWN_RESOURCE, FST_ERR_SHUTDOWN_CLIENT
 */
export function toResource (name: string, input: ResourceInput, adapt: Adapt): Resource {
  const dispose = disposeOf(input)
  if (dispose === undefined && (typeof input !== 'object' || input === null || Array.isArray(input))) {
    throw new ShutdownResourceError(`Expected resource '${name}' to be an object, got ${received(input)}`)
  }
  // An instance of a disposable class may have any fields. In other objects an unknown field is a typing error, or a
  // bare client.
  if (dispose !== undefined && !isPlain(input)) return { close: dispose }
  checkFields(name, input)
  const resource = (isPlain(input)
    ? input
    : checkFields(name, bindMethods(input))) as Resource & { readonly client?: object }
  if (dispose !== undefined) return mergeResource({ close: dispose }, resource)
  if (resource.client === undefined) return resource
  const { client, ...declared } = resource
  return mergeResource(adapt(client), declared)
}

/** Merges the user's fields into the resource of a client or plugin. A field that is `undefined` does not count. */
export function mergeResource (resource: Resource, declared: Resource): Resource {
  return { ...resource, ...Object.fromEntries(Object.entries(declared).filter(([, value]) => value !== undefined)) }
}

/** Returns a function that disposes of a value; `undefined` if the value is not disposable. */
export function disposeOf (value: unknown): (() => void | Promise<void>) | undefined {
  const disposable = value as Partial<AsyncDisposable & Disposable> | null | undefined
  if (typeof disposable?.[Symbol.asyncDispose] === 'function') {
    return async () => { await disposable[Symbol.asyncDispose]!() }
  }
  if (typeof disposable?.[Symbol.dispose] === 'function') return () => disposable[Symbol.dispose]!()
  return undefined
}

function checkFields (name: string, input: object): object {
  for (const field of Object.keys(input)) {
    const rule = rules.get(field)
    if (rule === undefined) {
      throw new ShutdownResourceError(`Resource '${name}' has an unknown field '${field}'${suggest(field, fields)}`)
    }
    const value: unknown = input[field as keyof object]
    if (value !== undefined && !rule.holds(value)) {
      throw new ShutdownResourceError(
        `Expected '${field}' of resource '${name}' to be ${rule.expected}, got ${received(value)}`
      )
    }
  }
  return input
}

/**
 * Copies the fields of a class instance with bound methods. A plain copy loses the methods, because they are in the
 * prototype.
 */
function bindMethods (instance: object): object {
  return Object.fromEntries(fields.map(field => {
    const value: unknown = instance[field as keyof object]
    return [field, typeof value === 'function' ? value.bind(instance) : value]
  }))
}

function isPlain (input: unknown): boolean {
  const prototype: unknown = Object.getPrototypeOf(input)
  return prototype === Object.prototype || prototype === null
}
