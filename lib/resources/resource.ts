/**
 * The contract of something that has to be closed, and the ways in which one can be given: a resource, a disposable, or
 * a known client that finds its adapter.
 */
import type { Resource, ResourceInput } from '../../types/index'
import { ShutdownResourceError, received } from '../errors'
import { suggest } from '../util/did-you-mean'
import type { AdapterOptions } from './adapters/adapter'

/** Turns `{ client }` into a resource. */
export type Adapt = (client: object) => Resource

/**
 * Find the adapter of a known client. The adapters are loaded when the first client comes: most services have two kinds at most.
 *
 * @throws FST_ERR_SHUTDOWN_CLIENT for an unknown client, with the list of known kinds
 */
export function adaptClient (client: object, options?: AdapterOptions): Resource {
  const { adapterFor } = require('./adapters/index') as typeof import('./adapters/index')
  return adapterFor(client, options)
}

interface Check {
  readonly expected: string
  holds (value: unknown): boolean
}

const aFunction: Check = { expected: 'a function', holds: value => typeof value === 'function' }

const checks: ReadonlyMap<string, Check> = new Map<string, Check>([
  ['dependsOn', { expected: 'a list of names', holds: areNames }],
  ['pause', aFunction],
  ['close', aFunction],
  ['force', aFunction],
  ['timeout', { expected: 'a positive number of milliseconds', holds: value => typeof value === 'number' && value > 0 && value < 2 ** 31 }],
  ['last', { expected: 'a boolean', holds: value => typeof value === 'boolean' }],
  ['detail', aFunction],
  ['client', { expected: 'a client', holds: value => typeof value === 'object' && value !== null }]
])

const fields = [...checks.keys()]

const reserved = ['__proto__', 'constructor', 'prototype']

/** @throws FST_ERR_SHUTDOWN_RESOURCE */
export function checkResourceName (name: string): string {
  // A name ends up as a key of a report that people turn into objects: these three would reach the prototype.
  if (typeof name !== 'string' || name === '' || reserved.includes(name)) {
    throw new ShutdownResourceError(`Expected a resource's name to be a non-empty string other than '__proto__', 'constructor' and 'prototype', got ${received(name)}`)
  }
  return name
}

/** @throws FST_ERR_SHUTDOWN_RESOURCE */
export function toResources (inputs: Readonly<Record<string, ResourceInput>>, adapt: Adapt | undefined): [name: string, resource: Resource][] {
  if (typeof inputs !== 'object' || inputs === null || Array.isArray(inputs)) {
    throw new ShutdownResourceError(`Expected the resources to be an object of name -> resource, got ${received(inputs)}`)
  }
  return Object.keys(inputs).map(name => [checkResourceName(name), toResource(name, inputs[name]!, adapt)])
}

/** @throws FST_ERR_SHUTDOWN_RESOURCE */
export function toResource (name: string, input: ResourceInput, adapt?: Adapt): Resource {
  const dispose = disposeOf(input)
  if (dispose === undefined && (typeof input !== 'object' || input === null || Array.isArray(input))) {
    throw new ShutdownResourceError(`Expected resource '${name}' to be an object, got ${received(input)}`)
  }
  // A disposable may have any fields; whatever else has fields that we do not know is a slip, or a bare client.
  if (dispose !== undefined && !isPlain(input)) return { close: dispose }
  checkFields(name, input)
  const resource = (isPlain(input) ? input : checkFields(name, bound(input))) as Resource & { readonly client?: object }
  if (dispose !== undefined) return overlay({ close: dispose }, resource)
  if (resource.client === undefined) return resource
  if (adapt === undefined) throw new ShutdownResourceError(`Resource '${name}' is given by its client, but no adapters are at hand here`)
  const { client, ...said } = resource
  return overlay(adapt(client), said)
}

/** What the user said of a resource counts before what its client or plugin brought along; what is undefined was not said. */
export function overlay (brought: Resource, said: Resource): Resource {
  return { ...brought, ...Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined)) }
}

function checkFields (name: string, input: object): object {
  for (const field of Object.keys(input)) {
    const check = checks.get(field)
    if (check === undefined) throw new ShutdownResourceError(`Resource '${name}' has an unknown field '${field}'${suggest(field, fields)}`)
    const value: unknown = input[field as keyof object]
    if (value !== undefined && !check.holds(value)) {
      throw new ShutdownResourceError(`Expected '${field}' of resource '${name}' to be ${check.expected}, got ${received(value)}`)
    }
  }
  return input
}

/** An instance of a class keeps its methods in its prototype, where a copy of its fields would lose them. */
function bound (instance: object): object {
  return Object.fromEntries(fields.map(field => {
    const value: unknown = instance[field as keyof object]
    return [field, typeof value === 'function' ? value.bind(instance) : value]
  }))
}

function isPlain (input: unknown): boolean {
  const prototype: unknown = Object.getPrototypeOf(input)
  return prototype === Object.prototype || prototype === null
}

function disposeOf (input: ResourceInput): Resource['close'] {
  const disposable = input as Partial<AsyncDisposable & Disposable> | null | undefined
  if (typeof disposable?.[Symbol.asyncDispose] === 'function') return async () => { await disposable[Symbol.asyncDispose]!() }
  if (typeof disposable?.[Symbol.dispose] === 'function') return () => disposable[Symbol.dispose]!()
  return undefined
}

function areNames (value: unknown): boolean {
  if (!Array.isArray(value)) return false
  for (const name of value) if (typeof name !== 'string') return false
  return true
}
