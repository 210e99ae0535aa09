/** A promise that somebody else resolves: `Promise.withResolvers`, which Node 20 does not have. */
export interface Later<T> {
  readonly promise: Promise<T>
  resolve(value: T | PromiseLike<T>): void
}

export function later<T> (): Later<T> {
  let resolve!: (value: T | PromiseLike<T>) => void
  const promise = new Promise<T>(_resolve => { resolve = _resolve })
  return { promise, resolve }
}
