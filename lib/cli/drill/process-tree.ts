/** The tree of a process: its descendants, also those whose parent has ended. */
import { every } from '../../util/time'
import { listProcesses, type ProcessEntry } from './process-table'

/** How often new children are looked for, in milliseconds. */
const lookInterval = 250

/** The tree of a process. */
export interface ProcessTree {
  /** Pids of the tree that run now, without the root. */
  descendants (): number[]
  /** Sends SIGKILL to what runs of the tree, with the root. Synchronous, for exit handlers. */
  kill (): void
  /** Stops to look for new children. */
  stop (): void
}

/**
 * Watches the tree of a process.
 *
 * @param owned whether the drill has started the root, which then leads its own session
 */
export function watchTree (root: number, owned: boolean): ProcessTree {
  const known = new Map<number, string>()
  let rootStarted = listProcesses().get(root)?.started

  /** Adds new members. @returns the members that run now, with the root */
  function look (): ProcessEntry[] {
    const table = listProcesses()
    rootStarted ??= table.get(root)?.started
    const isMember = ({ pid, group, started }: ProcessEntry): boolean =>
      (pid === root && started === rootStarted) || known.get(pid) === started || (owned && group === root)
    const members = new Map([...table].filter(([, entry]) => isMember(entry)))
    for (let size = -1; size !== members.size;) {
      size = members.size
      for (const [pid, entry] of table) if (members.has(entry.parent)) members.set(pid, entry)
    }
    for (const { pid, started } of members.values()) known.set(pid, started)
    return [...members.values()]
  }

  const stop = every(lookInterval, look)
  look()
  return {
    descendants: () => look().flatMap(({ pid }) => pid === root ? [] : [pid]),
    kill () {
      // Twice: a process may start another one until it is killed.
      for (let round = 0; round < 2; round++) {
        for (const { pid } of look()) {
          try {
            process.kill(pid, 'SIGKILL')
          } catch {
            // It has ended in the meantime.
          }
        }
      }
    },
    stop
  }
}
