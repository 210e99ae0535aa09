/** Creates promises that another function resolves, and functions that do their work once. */

/** A promise that another function resolves: `Promise.withResolvers`, which Node 20 does not have. */
export interface Deferred<T> {
  readonly promise: Promise<T>
  /** Resolves the promise. Later calls have no effect. */
  resolve(value: T | PromiseLike<T>): void
}

/** Creates a pending promise, and the function that resolves it. */
export function createDeferred<T> (): Deferred<T> {
  let resolve!: (value: T | PromiseLike<T>) => void
  const promise = new Promise<T>(_resolve => { resolve = _resolve })
  return { promise, resolve }
}

/**
 * Returns a function that begins the work at its first call. Each call returns the same promise, also a call by the
 * work itself.
 */
export function once<T> (work: () => Promise<T>): () => Promise<T> {
  let promise: Promise<T> | null = null
  return () => {
    if (promise !== null) return promise
    const deferred = createDeferred<T>()
    promise = deferred.promise
    deferred.resolve(work())
    return promise
  }
}
