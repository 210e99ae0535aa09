/** The tree of a process: its descendants, also those whose parent has ended. */
import { every } from '../../util/time'
import { hasVariable, listProcesses, type ProcessEntry } from './process-table'

/** How often new children are looked for, in milliseconds. */
const lookInterval = 250

/** The environment variable that marks what a drill has started. */
export const treeVariable = 'FASTIFY_SHUTDOWN_DRILL'

/** The tree of a process. */
export interface ProcessTree {
  /** Pids of the tree that run now, without the root. */
  descendants (): number[]
  /** Sends SIGKILL to the root and to its descendants that run. Synchronous, for exit handlers. */
  kill (): void
  /** No longer looks for new children. */
  stop (): void
}

/**
 * Watches the tree of a process.
 *
 * @param owned whether the drill has started the root, which then leads its own session
 * @param mark the value of the variable `treeVariable` in the environment of the tree, which finds a daemon: a process
 * that has left the session before it was seen. Only on Linux
 */
export function watchTree (root: number, owned: boolean, mark: string | null = null): ProcessTree {
  const known = new Map<number, string>()
  /** Processes whose environment does not have the mark. */
  const unmarked = new Map<number, string>()
  let rootStarted = listProcesses().get(root)?.started

  /** Adds new members. @returns the members that run now, with the root */
  function look (): ProcessEntry[] {
    const table = listProcesses()
    rootStarted ??= table.get(root)?.started
    const isMember = ({ pid, group, started }: ProcessEntry): boolean =>
      (pid === root && started === rootStarted) || known.get(pid) === started || (owned && group === root) ||
      isMarked(pid, started)
    const members = new Map([...table].filter(([, entry]) => isMember(entry)))
    for (let size = -1; size !== members.size;) {
      size = members.size
      for (const [pid, entry] of table) if (members.has(entry.parent)) members.set(pid, entry)
    }
    for (const { pid, started } of members.values()) known.set(pid, started)
    return [...members.values()]
  }

  function isMarked (pid: number, started: string): boolean {
    if (mark === null || unmarked.get(pid) === started) return false
    if (hasVariable(pid, treeVariable, mark)) return true
    unmarked.set(pid, started)
    return false
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
