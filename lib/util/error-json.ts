/**
 * Errors of the report in JSON. `JSON.stringify` turns an Error into `{}`, and the `toJSON` of an error may contain
 * secrets.
 */

/** An error in JSON. */
export interface ErrorJson {
  readonly name: string
  readonly message: string
  /** Missing if the error has no code that is a string. */
  readonly code?: string
}

/** Returns the name, the message and the code of an error. Never throws. */
export function errorToJson (error: Error): ErrorJson {
  const code = textOf(error, 'code')
  return {
    name: textOf(error, 'name') ?? 'Error',
    message: textOf(error, 'message') ?? '',
    ...(code === undefined ? {} : { code })
  }
}

/** Returns a property if it is a string. The error may be any object, such as a Proxy whose getter throws. */
function textOf (error: Error, key: 'name' | 'message' | 'code'): string | undefined {
  try {
    const value: unknown = (error as NodeJS.ErrnoException)[key]
    return typeof value === 'string' ? value : undefined
  } catch {
    return undefined
  }
}

/** Adds a `toJSON` that is not enumerable, so that copies and comparisons of the object ignore it. */
export function withJson<T extends object> (value: T, toJSON: () => unknown): T {
  return Object.defineProperty(value, 'toJSON', { value: toJSON })
}

/** Makes an error of our own `{ name, message, code }` in JSON. */
export function withErrorJson<E extends Error> (error: E): E {
  return withJson(error, () => errorToJson(error))
}

/** Makes the error of a result `{ name, message, code }` in JSON. A `detail` that is no object in JSON is left out. */
export function withResultJson<R extends { readonly error: Error | null, readonly detail?: object }> (result: R): R {
  const { error, detail } = result
  if (error === null && detail === undefined) return result
  return withJson(result, () => {
    const { detail, ...rest } = result
    return {
      ...rest,
      error: error === null ? null : errorToJson(error),
      ...(isJson(detail) ? { detail } : {})
    }
  })
}

function isJson (value: unknown): boolean {
  try {
    return JSON.stringify(value)?.startsWith('{') === true
  } catch {
    return false // It is circular, or contains a BigInt.
  }
}
