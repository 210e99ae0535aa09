/** Recognises asynchronous functions and their results, as Fastify and avvio do. */

/** Returns whether a value is an async function. Fastify throws for an async hook that also takes a callback. */
export function isAsyncFunction (value: unknown): boolean {
  return typeof value === 'function' && value.constructor.name === 'AsyncFunction'
}

/** Returns whether a value has a method `then`. A query builder has one, and may run its query at each call. */
export function isThenable (value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === 'function'
}
