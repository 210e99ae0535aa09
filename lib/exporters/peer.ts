/** Loads a package that only one exporter uses: an optional peer dependency. */
import { ShutdownPeerError } from '../errors'

/**
 * Loads the packages that are installed.
 *
 * @param entry the entry point that needs one of them, such as `prometheus`
 * @param names the packages. One of them is enough
 * @returns those that are installed, in the same order
 * @throws FST_ERR_SHUTDOWN_PEER if none is installed
 */
export function loadPeers<T> (entry: string, names: readonly [string, ...string[]]): [T, ...T[]] {
  const loaded = names.filter(isInstalled).map(name => require(name) as T)
  if (loaded.length === 0) throw new ShutdownPeerError(entry, names.join(' or '), names[0])
  return loaded as [T, ...T[]]
}

/** Returns whether a package can be found. If it fails to load, it is not missing, and its own error is thrown. */
function isInstalled (name: string): boolean {
  try {
    require.resolve(name)
    return true
  } catch {
    return false
  }
}
