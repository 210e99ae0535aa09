/** Limits how many names of resources the metrics have. */

/** Most names of resources in the metrics. */
const mostNames = 100

/**
 * Creates a function that returns a name, or `other` for each new name after the first `most` names. An app may add a
 * resource for each of its workers, and each new name is a new time series.
 *
 * @default most 100
 */
export function createBoundedNames (most = mostNames): (name: string) => string {
  const known = new Set<string>()
  return name => {
    if (!known.has(name) && known.size >= most) return 'other'
    known.add(name)
    return name
  }
}
