/** Promises that another function resolves, and work that begins once. */

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

/** Begins the work at the first call. Every caller gets the same promise, also one that calls from inside the work. */
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
