/** When each resource and plugin of a report closed, and which one closed before another. */
import type { ShutdownReport } from '../../types/index'

/** The close of a resource, or of all hooks of a plugin. Times are milliseconds since the shutdown began. */
export interface Close {
  readonly name: string
  readonly startedMs: number
  readonly endedMs: number
  /** Names of the resources that it waited for. */
  readonly waitedFor: readonly string[]
}

/** Sums of times have a rounding error, in milliseconds. */
const rounding = 1e-6

/** Returns the close of each resource and plugin, by name. A plugin with the name of a resource is left out. */
export function closesOf ({ resources, hooks }: Pick<ShutdownReport, 'resources' | 'hooks'>): Map<string, Close> {
  const closes = new Map<string, Close>()
  for (const { name, startedMs, durationMs } of hooks) {
    const { startedMs: first = startedMs, endedMs: last = 0 } = closes.get(name) ?? {}
    const endedMs = Math.max(last, startedMs + durationMs)
    closes.set(name, { name, startedMs: Math.min(first, startedMs), endedMs, waitedFor: [] })
  }
  for (const { name, startedMs, durationMs, waitedFor } of resources) {
    closes.set(name, { name, startedMs, endedMs: startedMs + durationMs, waitedFor })
  }
  return closes
}

/**
 * Returns whether `second` began when `first` was over. Under a fake clock both may have the same time; then `second`
 * must have waited for `first`, directly or through others.
 */
export function closesBefore (first: Close, second: Close, closes: ReadonlyMap<string, Close>): boolean {
  if (first.endedMs > second.startedMs + rounding) return false
  return first.startedMs < second.startedMs || hasWaitedFor(second, first.name, closes)
}

function hasWaitedFor ({ waitedFor }: Close, name: string, closes: ReadonlyMap<string, Close>): boolean {
  // The set grows while it is read.
  const names = new Set(waitedFor)
  for (const each of names) closes.get(each)?.waitedFor.forEach(further => names.add(further))
  return names.has(name)
}
