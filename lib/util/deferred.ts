/** Promises that are settled from outside, or whose work begins once. */

/** A promise with its `resolve`: `Promise.withResolvers`, which Node 20 does not have. */
export interface Later<T> {
  readonly promise: Promise<T>
  resolve(value: T | PromiseLike<T>): void
}

export function later<T> (): Later<T> {
  let resolve!: (value: T | PromiseLike<T>) => void
  const promise = new Promise<T>(_resolve => { resolve = _resolve })
  return { promise, resolve }
}

/** Begins the work at the first call. Every caller gets the same promise, also one that calls from inside the work. */
export function once<T> (work: () => Promise<T>): () => Promise<T> {
  let promise: Promise<T> | null = null
  return () => {
    if (promise !== null) return promise
    const deferred = later<T>()
    promise = deferred.promise
    deferred.resolve(work())
    return promise
  }
}
