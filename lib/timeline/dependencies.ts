/** Finds the bars of the critical path, and the lines between bars that waited for each other. */
import type { Bar } from './layout'

/** A line from the end of one bar to the beginning of another one, which waited for it. */
export interface Dependency {
  readonly from: Bar
  readonly to: Bar
  readonly isCritical: boolean
}

/** Difference of two times that are the same, in milliseconds: a report may have rounded them. */
const tolerance = 0.5

/**
 * Marks the bars of the critical path. Two hooks of one plugin have the same name, so the path is followed from its
 * end: of the bars with a name, the one that ended last before the next bar began.
 */
export function markCritical (bars: readonly Bar[], path: readonly string[]): Bar[] {
  const byName = groupByName([...bars].sort((a, b) => endOf(a) - endOf(b)))
  const critical = new Set<Bar>()
  let next = Infinity
  for (const name of path.toReversed()) {
    const group = byName.get(name) ?? []
    // What ends too late for this step ends too late for the steps before it.
    while (group.length > 1 && endOf(group.at(-1)!) > next + tolerance) group.pop()
    const bar = group.pop()
    if (bar === undefined) continue
    critical.add(bar)
    next = bar.startedMs ?? next
  }
  return bars.map(bar => critical.has(bar) ? { ...bar, isCritical: true } : bar)
}

/**
 * Returns the lines of the critical path, and for each other bar the line from the dependant that ended last. Lines
 * from all dependants would cover a picture with many bars.
 */
export function dependenciesOf (bars: readonly Bar[]): Dependency[] {
  const byName = new Map(bars.map(bar => [bar.name, bar]))
  const critical = bars.filter(bar => bar.isCritical).sort((a, b) => endOf(a) - endOf(b))
  const path = critical.slice(1).map((to, index) => ({ from: critical[index]!, to, isCritical: true }))
  const others = bars.filter(bar => !bar.isCritical || bar === critical[0]).flatMap(to => {
    const from = to.waitedFor.flatMap(name => byName.get(name) ?? []).filter(bar => bar !== to).reduce<Bar | null>(
      (last, bar) => last === null || endOf(bar) > endOf(last) ? bar : last, null
    )
    return from === null ? [] : [{ from, to, isCritical: false }]
  })
  return [...others, ...path]
}

/** Returns when a bar ended, in milliseconds. */
export function endOf ({ startedMs, durationMs }: Bar): number {
  return (startedMs ?? 0) + durationMs
}

function groupByName (bars: readonly Bar[]): Map<string, Bar[]> {
  const groups = new Map<string, Bar[]>()
  for (const bar of bars) {
    const group = groups.get(bar.name)
    if (group === undefined) groups.set(bar.name, [bar])
    else group.push(bar)
  }
  return groups
}
