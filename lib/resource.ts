/**
 * The contract of something that has to be closed, and the ways in which one can be given: a resource, a disposable, or
 * a known client that finds its adapter.
 */
import type { Resource, ResourceInput } from '../types/index'
import { ShutdownResourceError, received } from './errors'
import { suggest } from './suggest'

/** Turns `{ client }` into a resource; handed in, so that the adapters stay above this file. */
export type Adapt = (client: object) => Resource

const fields = ['dependsOn', 'pause', 'close', 'force', 'timeout', 'last', 'detail', 'client']

/** @throws FST_ERR_SHUTDOWN_RESOURCE */
export function checkResourceName (name: string): string {
  // A name ends up as a key of a report that people turn into objects: these three would reach the prototype.
  if (typeof name !== 'string' || name === '' || ['__proto__', 'constructor', 'prototype'].includes(name)) {
    throw new ShutdownResourceError(`Expected a resource's name to be a non-empty string other than '__proto__', 'constructor' and 'prototype', got ${received(name)}`)
  }
  return name
}

/** @throws FST_ERR_SHUTDOWN_RESOURCE */
export function toResource (name: string, input: ResourceInput, adapt?: Adapt): Resource {
  if ((typeof input !== 'object' && typeof input !== 'function') || input === null) {
    throw new ShutdownResourceError(`Expected resource '${name}' to be an object, got ${received(input)}`)
  }
  if (isAsyncDisposable(input)) return { close: async () => { await input[Symbol.asyncDispose]() } }
  if (isDisposable(input)) return { close: () => { input[Symbol.dispose]() } }
  for (const field of Object.keys(input)) {
    if (!fields.includes(field)) throw new ShutdownResourceError(`Resource '${name}' has an unknown field '${field}'${suggest(field, fields)}`)
  }
  const resource = input as Resource & { client?: unknown }
  for (const field of ['pause', 'close', 'force', 'detail'] as const) {
    if (resource[field] !== undefined && typeof resource[field] !== 'function') refuse(name, field, 'a function', resource[field])
  }
  if (resource.last !== undefined && typeof resource.last !== 'boolean') refuse(name, 'last', 'a boolean', resource.last)
  if (resource.timeout !== undefined && !(typeof resource.timeout === 'number' && resource.timeout > 0 && resource.timeout < 2 ** 31)) {
    refuse(name, 'timeout', 'a positive number of milliseconds', resource.timeout)
  }
  if (resource.dependsOn !== undefined && !(Array.isArray(resource.dependsOn) && resource.dependsOn.every(other => typeof other === 'string'))) {
    refuse(name, 'dependsOn', 'a list of names', resource.dependsOn)
  }
  if (resource.client === undefined) return resource
  if (typeof resource.client !== 'object' || resource.client === null) refuse(name, 'client', 'a client', resource.client)
  if (adapt === undefined) throw new ShutdownResourceError(`Resource '${name}' is given by its client, but no adapters are at hand here`)
  const { client, ...own } = resource
  return { ...adapt(client), ...own }
}

function isAsyncDisposable (input: object): input is AsyncDisposable {
  return typeof (input as Partial<AsyncDisposable>)[Symbol.asyncDispose] === 'function'
}

function isDisposable (input: object): input is Disposable {
  return typeof (input as Partial<Disposable>)[Symbol.dispose] === 'function'
}

function refuse (name: string, field: string, expected: string, value: unknown): never {
  throw new ShutdownResourceError(`Expected '${field}' of resource '${name}' to be ${expected}, got ${received(value)}`)
}
