/** Keeps the values of a label bounded. */

/** Most names of resources in the metrics. */
const mostNames = 100

/**
 * Creates a function that returns a name, or `other` for each new name after the first 100. Names of resources are
 * written by the developer of the app, so there are few of them. But an app may also add a resource for each of its
 * workers, and a number in the name would be a new time series for each.
 */
export function createBoundedNames (most = mostNames): (name: string) => string {
  const known = new Set<string>()
  return name => {
    if (!known.has(name) && known.size >= most) return 'other'
    known.add(name)
    return name
  }
}
