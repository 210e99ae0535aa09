/** The structure of an unknown object: its methods, its own fields, the getters of its class. */

/** Returns whether the client has all of these methods. */
export function hasMethods (client: object, ...names: readonly string[]): boolean {
  return names.every(name => typeof property(client, name) === 'function')
}

/**
 * Returns whether the client itself, and not its prototype, has all of these fields. An object of the app that has the
 * methods of a library does not have the fields in which the library keeps its state. A second copy of the library, a
 * minified one and a subclass have them.
 */
export function hasFields (client: object, ...names: readonly string[]): boolean {
  return names.every(name => Object.hasOwn(client, name))
}

/** Returns whether the prototype of the client, and not the client itself, has all of these as getters. */
export function hasGetters (client: object, ...names: readonly string[]): boolean {
  return names.every(name => {
    for (let each: object | null = client; each !== null; each = Object.getPrototypeOf(each) as object | null) {
      const found = Object.getOwnPropertyDescriptor(each, name)
      if (found !== undefined) return each !== client && found.get !== undefined
    }
    return false
  })
}

/** Returns whether a value is an object or a function. */
export function isObject (value: unknown): value is object {
  return (typeof value === 'object' && value !== null) || typeof value === 'function'
}

/** Returns a property of an object of unknown structure. */
export function property (client: object, name: string): unknown {
  return (client as Readonly<Record<string, unknown>>)[name]
}
