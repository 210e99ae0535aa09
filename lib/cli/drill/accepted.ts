/**
 * Finds out which connections the server has accepted. In Linux's table of sockets, a connection in the accept queue
 * has
 * no inode.
 */
import { after, now } from '../../util/time'
import { readTcpTable, type TcpEntry } from './listeners'
import { hasProc } from './process-table'

/** Youngest connection that is looked at, in milliseconds. Most are answered before. */
const youngest = 25

/** Shortest time between two looks, in milliseconds. */
const lookInterval = 100

/** Looks at connections that wait for their first answer. */
export interface AcceptWatch {
  /**
   * Watches a new connection.
   *
   * @returns a function that stops to watch it, and returns whether it was seen accepted; `null` if it was not seen
   */
  watch (localPort: number): () => boolean | null
}

/** Returns whether the server has accepted a connection; `null` if the table does not have the server's end. */
export function isAccepted (table: readonly TcpEntry[], serverPort: number, clientPort: number): boolean | null {
  const entry = table.find(
    ({ local, remotePort, listens }) => !listens && local.port === serverPort && remotePort === clientPort
  )
  return entry === undefined ? null : entry.inode !== '0'
}

/** Starts to look. @param port of the server */
export function watchAccepted (port: number): AcceptWatch {
  const waiting = new Map<number, { readonly since: number, accepted: boolean | null }>()
  let planned = false

  function plan (): void {
    if (planned || !hasProc) return
    planned = true
    after(lookInterval, () => { void look() }, { keepAlive: false })
  }

  async function look (): Promise<void> {
    const due = (): boolean => [...waiting.values()].some(
      ({ since, accepted }) => accepted !== true && now() - since > youngest
    )
    if (due()) {
      const table = await readTcpTable()
      for (const [clientPort, entry] of waiting) entry.accepted = isAccepted(table, port, clientPort) ?? entry.accepted
    }
    planned = false
    if (due()) plan()
  }

  return {
    watch (localPort) {
      const entry = { since: now(), accepted: null as boolean | null }
      waiting.set(localPort, entry)
      plan()
      return () => {
        waiting.delete(localPort)
        // Without the table, a connection that has waited for a second was accepted.
        return entry.accepted ?? (!hasProc && now() - entry.since > 1_000 ? true : null)
      }
    }
  }
}
